// Products of few rows with large weights, in the tiles of AMX: bfloat16 in and out, float sums. Reading the weights
// from memory is what takes the time, so that each is read once, where it lies, and asked for a piece ahead.
//
// Weights are [out, in], and 16 outputs of 32 inputs of them the first factor of an instruction: a panel is 16 outputs of
// all inputs. The second factor is 16 rows, turned: [16 pairs of inputs, 16 rows, 2]. So sums come as outputs of rows and
// are turned once more when they are rounded. What is missing to a full tile is zero.

#define STEPS_AT_ONCE 6   // tiles along the inputs: so much of the rows stays in the first cache
#define PANELS_AT_ONCE 96 // panels whose sums wait for the next inputs in the second cache

struct linear { // weight [outputs, inputs]; bias 0: none
    const REAL *weight, *bias;
    int64_t outputs;
};

#ifdef TILES
// Rows of x, turned: [inputs / 32, rows / 16, 16 pairs, 16 rows, 2].
static void turn_rows(const REAL *x, int64_t apart, int64_t rows, int64_t inputs, REAL *turned) {
    for (int64_t step = 0; step < inputs; step += DEEP)
        for (int64_t tile = 0; tile < rows; tile += EDGE, turned += TILE) {
            __mmask32 mask = first_lanes(inputs - step);
            __m512i lines[EDGE];
            for (int64_t row = 0; row < EDGE; row++)
                lines[row] = tile + row < rows ? _mm512_maskz_loadu_epi16(mask, x + (tile + row) * apart + step)
                                               : _mm512_setzero_si512();
            turn_pairs(lines, turned);
        }
}

// A tile of weights that is not full, with zeros.
static void fill_tile(const REAL *weight, int64_t outputs, int64_t inputs, int64_t stride, REAL *tile) {
    __mmask32 mask = first_lanes(inputs);
    for (int64_t output = 0; output < EDGE; output++)
        _mm512_storeu_si512(tile + output * DEEP, output < outputs
                                                      ? _mm512_maskz_loadu_epi16(mask, weight + output * stride)
                                                      : _mm512_setzero_si512());
}

// A piece of a linear's weights, to be multiplied or to be asked for: some inputs of one panel.
struct piece {
    const REAL *weight;
    int64_t outputs, inputs, apart; // as many as are left of the linear; numbers between two outputs
};

static struct piece piece_of(const struct linear *linear, int64_t inputs, int64_t panel, int64_t step) {
    return (struct piece){linear->weight + panel * EDGE * inputs + step * DEEP, linear->outputs - panel * EDGE,
                          inputs - step * DEEP, inputs};
}

// Sums of `steps` tiles along the inputs of a piece with up to TALL_TILES tiles of rows, in tiles 0 to 3; `next` is the
// piece after it. The number of tiles is a constant where this is called.
static inline __attribute__((always_inline)) void piece_sums(const REAL *rows, int64_t row_tiles, struct piece piece,
                                                             struct piece next, int64_t steps, int tall) {
#define ASK_NEXT(quarter) \
    for (int line = 4 * quarter; line < 4 * quarter + 4; line++) \
        __builtin_prefetch(next.weight + line * next.apart + step * DEEP, 0, 2)
    for (int64_t step = 0; step < steps; step++, rows += row_tiles * TILE) {
        const REAL *from = piece.weight + step * DEEP;
        int64_t apart = piece.apart, left = piece.inputs - step * DEEP;
        REAL filled[TILE];
        if (piece.outputs < EDGE || left < DEEP) {
            fill_tile(from, piece.outputs, left, apart, filled);
            from = filled, apart = DEEP;
        }
        SETTLE();
        _tile_loadd(4, from, apart * sizeof(REAL));
        _tile_loadd(5, rows, 64);
        _tile_dpbf16ps(0, 4, 5);
        ASK_NEXT(0);
        if (tall > 1) {
            _tile_loadd(6, rows + TILE, 64);
            _tile_dpbf16ps(1, 4, 6);
        }
        ASK_NEXT(1);
        if (tall > 2) {
            _tile_loadd(7, rows + 2 * TILE, 64);
            _tile_dpbf16ps(2, 4, 7);
        }
        ASK_NEXT(2);
        if (tall > 3) {
            _tile_loadd(5, rows + 3 * TILE, 64);
            _tile_dpbf16ps(3, 4, 5);
        }
        ASK_NEXT(3);
    }
}

static inline __m512 bias_of(const struct linear *linear, int64_t output) {
    __mmask16 mask = linear->bias ? (__mmask16)first_lanes(linear->outputs - output) : 0;
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, linear->bias + output));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

// Turns the sums of panels [first, last), adds the bias and puts them into `out`. Two panels at a time, which is whole
// lines of the cache: rows are a power of two apart in many models, and half lines would displace each other.
static inline void write_sums(tile_sums *sums, const struct linear *linear, REAL *out, int64_t stride, int64_t rows,
                              int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; panel += 2, sums += 2) {
        int64_t start = panel * EDGE, end = panel + 1 < last ? linear->outputs : start + EDGE;
        __mmask32 mask = first_lanes((end < linear->outputs ? end : linear->outputs) - start);
        __m512 bias = bias_of(linear, start), next_bias = bias_of(linear, start + EDGE);
        for (int64_t tile = 0; tile * EDGE < rows; tile++) {
            __m512 left[EDGE], right[EDGE];
            turn_pairs((const __m512i *)sums[0][tile], (REAL *)left);
            turn_pairs((const __m512i *)sums[panel + 1 < last][tile], (REAL *)right);
            for (int64_t row = tile * EDGE, i = 0; i < EDGE && row < rows; i++, row++) {
                __m512i both = (__m512i)_mm512_cvtne2ps_pbh(right[i] + next_bias, left[i] + bias);
                _mm512_mask_storeu_epi16(out + row * stride + start, mask, both);
            }
        }
    }
}

// `tall` tiles of rows with panels [first, last) of one linear; `after` is the piece that is read next. `sums` is room.
static inline __attribute__((always_inline)) void panels(tile_sums *sums, const REAL *turned,
                                                         int64_t row_tiles, const struct linear *linear, int64_t inputs,
                                                         REAL *out, int64_t stride, int64_t rows, int64_t first,
                                                         int64_t last, struct piece after, int tall) {
    int64_t steps = tiles_of(inputs, DEEP), parts = tiles_of(steps, STEPS_AT_ONCE);
    for (int64_t part = 0; part < parts; part++) {
        int64_t begin = steps * part / parts, end = steps * (part + 1) / parts;
        for (int64_t panel = first; panel < last; panel++) {
            tile_sums *own = sums + panel - first;
            struct piece next = panel + 1 < last   ? piece_of(linear, inputs, panel + 1, begin)
                                : part + 1 < parts ? piece_of(linear, inputs, first, end)
                                                   : after;
            if (part)
                load_sums(own, tall);
            else
                begin_sums(tall);
            piece_sums(turned + begin * row_tiles * TILE, row_tiles, piece_of(linear, inputs, panel, begin), next,
                       end - begin, tall);
            store_sums(own, tall);
        }
    }
    write_sums(sums, linear, out, stride, rows, first, last);
}

// Where the panels of a linear begin that are this thread's.
static int64_t first_panel(const struct linear *linear, int64_t thread) {
    return tiles_of(linear->outputs, EDGE) * thread / omp_get_num_threads();
}

// This thread's share of a linear; `after` is the piece that is read next.
static void share_of(const struct linear *linear, int64_t inputs, const REAL *turned, REAL *out, int64_t stride,
                     int64_t rows, struct piece after) {
    tile_sums sums[PANELS_AT_ONCE];
    int64_t row_tiles = tiles_of(rows, EDGE);
    int64_t first = first_panel(linear, omp_get_thread_num()), end = first_panel(linear, omp_get_thread_num() + 1);
    for (; first < end; first += PANELS_AT_ONCE)
        for (int64_t tile = 0; tile < row_tiles; tile += TALL_TILES) {
            int64_t last = first + PANELS_AT_ONCE < end ? first + PANELS_AT_ONCE : end;
            int64_t top = tile * EDGE, left = rows - top < TALL_TILES * EDGE ? rows - top : TALL_TILES * EDGE;
            struct piece next = last < end ? piece_of(linear, inputs, last, 0) : after;
#define PANELS(tall) \
    panels(sums, turned + tile * TILE, row_tiles, linear, inputs, out + top * stride, stride, left, first, last, next, \
           tall)
            switch (tiles_of(left, EDGE)) {
            case 1: PANELS(1); break;
            case 2: PANELS(2); break;
            case 3: PANELS(3); break;
            case 4: PANELS(4); break;
            }
        }
}

struct product { // linears that read the same, their outputs side by side
    const struct linear *linears;
    int64_t count, inputs;
};

static struct piece first_piece(struct product product, int64_t number) {
    const struct linear *linear = product.linears + number;
    return piece_of(linear, product.inputs, first_panel(linear, omp_get_thread_num()), 0);
}

// out [rows, all outputs] = x weight^T + bias, by all threads of a parallel region, which have called tiles_begin. Rows of
// x are `apart` from each other; `turned` is room for them, a thread's own, as waiting for others takes longer than to
// turn them twice. `then` is what is multiplied with next: its weights are asked for while the last of these are used.
// Whoever reads what others have made waits for them first.
static void multiply_tiles(struct product product, struct product then, const REAL *x, int64_t apart, REAL *turned,
                           REAL *out, int64_t rows) {
    int64_t stride = 0;
    for (int64_t i = 0; i < product.count; i++) stride += product.linears[i].outputs;
    turn_rows(x, apart, rows, product.inputs, turned);
    for (int64_t i = 0; i < product.count; out += product.linears[i++].outputs) {
        int more = i + 1 < product.count && product.linears[i + 1].outputs;
        struct piece after = more ? first_piece(product, i + 1) : first_piece(then, 0);
        share_of(product.linears + i, product.inputs, turned, out, stride, rows, after);
    }
}
#endif
