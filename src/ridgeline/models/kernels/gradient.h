// The gradient of a weight in the tiles of AMX, added where it is summed: sum [outs, ins] (+)= d_out^T x, float sums.
//
// A tile wants x in pairs of tokens, [ins / 32][tokens / 32][2][16 pairs][16 ins][2], laid so on the way forward.
// d_out is laid across: [outs / 32][tokens / 32][2][16 outs][32 tokens]. What is missing to a full tile is zero.

#define SIDE (2 * EDGE)           // rows and columns of the sum at a time: 2 x 2 tiles
#define STEP (SIDE * DEEP)        // numbers of either side for DEEP tokens
#define STEPS_OF_SIDE 9           // tiles along the tokens: so much of d_out stays in the first cache
#define PAIRS_BYTES (5 << 18)     // of x at a time: so much stays in the second cache

#ifdef TILES
// Up to 32 rows and columns as two tiles of pairs of rows, [2][16 pairs][16 columns][2].
static inline void pair_rows(const REAL *from, int64_t stride, int64_t rows, int64_t columns, __m512i *to) {
    const __m512i left = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i right = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    const __m512i none = _mm512_setzero_si512();
    __mmask32 mask = first_lanes(columns);
    for (int64_t pair = 0; pair < EDGE; pair++) {
        const REAL *line = from + 2 * pair * stride;
        __m512i even = 2 * pair < rows ? _mm512_maskz_loadu_epi16(mask, line) : none;
        __m512i odd = 2 * pair + 1 < rows ? _mm512_maskz_loadu_epi16(mask, line + stride) : none;
        __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
        to[pair] = _mm512_permutex2var_epi64(low, left, high);
        to[EDGE + pair] = _mm512_permutex2var_epi64(low, right, high);
    }
}

// x [tokens, columns] in pairs of tokens.
void NAME(pair_tokens)(const REAL *x, REAL *pairs, int64_t tokens, int64_t columns) {
    int64_t steps = tiles_of(tokens, DEEP), panels = tiles_of(columns, SIDE);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t step = 0; step < steps; step++)
        for (int64_t panel = 0; panel < panels; panel++)
            pair_rows(x + step * DEEP * columns + panel * SIDE, columns, tokens - step * DEEP, columns - panel * SIDE,
                      (__m512i *)(pairs + (panel * steps + step) * STEP));
}

static void lay_across(const REAL *from, int64_t stride, int64_t tokens, int64_t columns, REAL *to) {
    __m512i pairs[2 * EDGE];
    for (int64_t token = 0; token < tokens; token += DEEP, to += STEP) {
        pair_rows(from + token * stride, stride, tokens - token, columns, pairs);
        turn_pairs(pairs, to);
        turn_pairs(pairs + EDGE, to + STEP / 2);
    }
}

typedef float square[4][EDGE][EDGE] __attribute__((aligned(64)));

// Adds a square to the sum, or puts it there past the caches; returns `squares` and those of what is there then.
static inline __m512 deliver(square *from, float *to, int64_t stride, int64_t rows, int64_t columns, int64_t add,
                             __m512 squares) {
    int whole = columns >= SIDE && stride % EDGE == 0 && (uintptr_t)to % 64 == 0;
    for (int64_t i = 0; i < SIDE && i < rows; i++)
        for (int64_t half = 0; half < 2; half++) {
            float *place = to + i * stride + half * EDGE;
            __mmask16 mask = (__mmask16)first_lanes(columns - half * EDGE);
            __m512 value = _mm512_load_ps((*from)[i / EDGE * 2 + half][i % EDGE]);
            if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, place));
            squares = _mm512_fmadd_ps(value, value, squares);
            if (whole && !add)
                _mm512_stream_ps(place, value);
            else
                _mm512_mask_storeu_ps(place, mask, value);
        }
    return squares;
}

// A square of 32 outs and 32 ins over `steps` tiles along the tokens, on top of what it holds unless it is `fresh`.
static inline void form_square(const REAL *across, const REAL *pairs, int64_t steps, square *to, int fresh) {
    SETTLE();
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, (*to)[0], 64);
        _tile_loadd(1, (*to)[1], 64);
        _tile_loadd(2, (*to)[2], 64);
        _tile_loadd(3, (*to)[3], 64);
    }
    for (int64_t step = 0; step < steps; step++, across += STEP, pairs += STEP) {
        _tile_loadd(4, across, 64);
        _tile_loadd(6, pairs, 64);
        _tile_loadd(7, pairs + STEP / 2, 64);
        _tile_loadd(5, across + STEP / 2, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, (*to)[0], 64);
    _tile_stored(1, (*to)[1], 64);
    _tile_stored(2, (*to)[2], 64);
    _tile_stored(3, (*to)[3], 64);
}

// sum [outs, ins] = or += d_out^T x, from `pairs` of x and d_out [tokens, outs], whose rows are `stride` apart.
// squares [threads]: each thread's share of the sum of squares of what is in `sum` then. Room to work in: `across` for
// d_out, at least 32 outs a thread, and `squares_room` [threads, ins / 32, 32, 32].
void NAME(sum_product)(const REAL *d_out, const REAL *pairs, float *sum, REAL *across, float *squares_room,
                       double *squares, int64_t tokens, int64_t outs, int64_t ins, int64_t stride, int64_t add,
                       int64_t threads) {
    int64_t steps = tiles_of(tokens, DEEP), panels = tiles_of(ins, SIDE), lines = tiles_of(outs, SIDE);
    int64_t parts = tiles_of(steps, STEPS_OF_SIDE), broad = PAIRS_BYTES / (STEP * (int64_t)sizeof(REAL) * steps);
    int64_t blocks = tiles_of(panels, broad < 1 ? 1 : broad);
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
        square *room = (square *)squares_room + me * panels;
        squares[me] = 0;
        tiles_begin();
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t line = lines * me / all; line < lines * (me + 1) / all; line++) {
                // Laid across once; where no other block needs it again, into a place that stays in the cache.
                REAL *own = across + (blocks > 1 ? line : me) * steps * STEP;
                int64_t left = panels * block / blocks, right = panels * (block + 1) / blocks;
                __m512 found = _mm512_setzero_ps();
                if (block == 0) lay_across(d_out + line * SIDE, stride, tokens, outs - line * SIDE, own);
                for (int64_t part = 0; part < parts; part++)
                    for (int64_t panel = left; panel < right; panel++) {
                        int64_t first = steps * part / parts, count = steps * (part + 1) / parts - first;
                        float *to = sum + line * SIDE * ins + panel * SIDE;
                        int last = part == parts - 1;
                        for (int64_t i = 0; add && last && i < SIDE && i < outs - line * SIDE; i++) {
                            __builtin_prefetch(to + i * ins, 1);
                            __builtin_prefetch(to + i * ins + EDGE, 1);
                        }
                        form_square(own + first * STEP, pairs + (panel * steps + first) * STEP, count, room + panel,
                                    part == 0);
                        if (last)
                            found = deliver(room + panel, to, ins, outs - line * SIDE, ins - panel * SIDE, add, found);
                    }
                squares[me] += _mm512_reduce_add_ps(found);
            }
        _tile_release();
        _mm_sfence();
    }
}
#endif
