// Products of few rows with large packed weights, in the tiles of AMX: bfloat16 in and out, float sums. Reading the
// weights from memory is what takes the time, so that each is read once and asked for one panel ahead.
//
// Weights [out, in] are packed into panels of 16 outputs, and these into tiles of 32 inputs, in pairs as the instruction
// wants them: [out / 16, in / 32, 16 pairs, 16 outputs, 2]. Rows are packed into tiles of 16 of them and 32 of their
// numbers, [in / 32, rows / 16, 16, 32]. What is missing to a full tile is zero.

#define EDGE 16                  // rows of a tile
#define DEEP 32                  // numbers in a row of a tile
#define TILE (EDGE * DEEP)       // numbers in a tile
#define TALL_TILES 4             // tiles of rows that are summed side by side
#define STEPS_AT_ONCE 6          // tiles along the inputs: so much of the rows stays in the first cache
#define PANELS_AT_ONCE 32        // panels whose sums wait for the next inputs in the second cache

static inline int64_t tiles_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define TILES
#include <sys/syscall.h>
#include <unistd.h>

// Linux gives a process the registers only when it asks for them.
void NAME(tiles_ready)(int64_t *ready) {
    *ready = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XFEATURE_XTILEDATA */) == 0;
}

// Packs weights [outputs, inputs], whose rows lie one behind the other.
void NAME(pack_tiles)(const REAL *weight, REAL *packed, int64_t outputs, int64_t inputs) {
    int64_t steps = tiles_of(inputs, DEEP);
#pragma omp parallel for schedule(static)
    for (int64_t panel = 0; panel < tiles_of(outputs, EDGE); panel++)
        for (int64_t step = 0; step < steps; step++) {
            REAL *tile = packed + (panel * steps + step) * TILE;
            for (int64_t i = 0; i < TILE; i++) {
                int64_t output = panel * EDGE + i / 2 % EDGE, input = step * DEEP + i / (2 * EDGE) * 2 + i % 2;
                tile[i] = output < outputs && input < inputs ? weight[output * inputs + input] : 0;
            }
        }
}

// Puts `count` numbers of a row, from number `start` on, to their places among the tiles of all rows.
static inline void place(REAL *tiles, int64_t row_tiles, int64_t row, int64_t start, const REAL *numbers, int64_t count) {
    for (int64_t i = 0; i < count;) {
        int64_t at = start + i, part = DEEP - at % DEEP < count - i ? DEEP - at % DEEP : count - i;
        REAL *to = tiles + (at / DEEP * row_tiles + row / EDGE) * TILE + row % EDGE * DEEP + at % DEEP;
        memcpy(to, numbers + i, part * sizeof(REAL));
        i += part;
    }
}

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// To be said between writing numbers and loading them into tiles: gcc does not know that this reads memory.
#define SETTLE() __asm__ volatile("" ::: "memory")

static void tiles_begin(void) {
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) shapes.row_bytes[i] = 64, shapes.rows[i] = EDGE;
    _tile_loadconfig(&shapes);
}

// Sums of one panel and up to TALL_TILES tiles of rows over inputs [begin, end), in tiles 0 to 3; `next` is the panel
// after it. The number of tiles is a constant where this is called.
static inline __attribute__((always_inline)) void panel_sums(const REAL *rows, int64_t row_tiles, const REAL *panel,
                                                             const REAL *next, int64_t begin, int64_t end, int tall) {
#define ASK_NEXT(quarter) \
    for (int line = 4 * quarter; line < 4 * quarter + 4; line++) __builtin_prefetch(next + step * TILE + line * DEEP, 0, 2)
    SETTLE();
    for (int64_t step = begin; step < end; step++) {
        const REAL *tile = rows + step * row_tiles * TILE;
        _tile_loadd(4, panel + step * TILE, 64);
        _tile_loadd(5, tile, 64);
        _tile_dpbf16ps(0, 5, 4);
        ASK_NEXT(0);
        if (tall > 1) {
            _tile_loadd(6, tile + TILE, 64);
            _tile_dpbf16ps(1, 6, 4);
        }
        ASK_NEXT(1);
        if (tall > 2) {
            _tile_loadd(7, tile + 2 * TILE, 64);
            _tile_dpbf16ps(2, 7, 4);
        }
        ASK_NEXT(2);
        if (tall > 3) {
            _tile_loadd(5, tile + 3 * TILE, 64);
            _tile_dpbf16ps(3, 5, 4);
        }
        ASK_NEXT(3);
    }
}

typedef float tile_sums[TALL_TILES][EDGE][EDGE] __attribute__((aligned(64)));

static inline __attribute__((always_inline)) void begin_sums(int tall) {
    _tile_zero(0);
    if (tall > 1) _tile_zero(1);
    if (tall > 2) _tile_zero(2);
    if (tall > 3) _tile_zero(3);
}

static inline __attribute__((always_inline)) void load_sums(tile_sums *sums, int tall) {
    SETTLE();
    _tile_loadd(0, (*sums)[0], 64);
    if (tall > 1) _tile_loadd(1, (*sums)[1], 64);
    if (tall > 2) _tile_loadd(2, (*sums)[2], 64);
    if (tall > 3) _tile_loadd(3, (*sums)[3], 64);
}

static inline __attribute__((always_inline)) void store_sums(tile_sums *sums, int tall) {
    _tile_stored(0, (*sums)[0], 64);
    if (tall > 1) _tile_stored(1, (*sums)[1], 64);
    if (tall > 2) _tile_stored(2, (*sums)[2], 64);
    if (tall > 3) _tile_stored(3, (*sums)[3], 64);
}

// Rounds the sums of panels [first, last) and puts them, with the bias, into `out`: row by row, since rows are a power of
// two apart in many models, and so would displace each other in the cache if each panel were written down at once.
static inline void write_sums(tile_sums *sums, const REAL *bias, REAL *out, int64_t rows, int64_t width, int64_t first,
                              int64_t last) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t panel = first; panel < last; panel++) {
            int64_t start = panel * EDGE;
            __mmask16 mask = width - start < EDGE ? (1 << (width - start)) - 1 : 0xFFFF;
            __m512 sum = _mm512_load_ps(sums[panel - first][row / EDGE][row % EDGE]);
            if (bias) {
                __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, bias + start));
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
            }
            _mm256_mask_storeu_epi16(out + row * width + start, mask, (__m256i)_mm512_cvtneps_pbh(sum));
        }
}

// `tall` tiles of rows with panels [first, last).
static inline __attribute__((always_inline)) void panels(const REAL *rows, int64_t row_tiles, const REAL *weight,
                                                         const REAL *bias, REAL *out, int64_t count, int64_t steps,
                                                         int64_t width, int64_t first, int64_t last, int tall) {
    tile_sums sums[PANELS_AT_ONCE];
    int64_t parts = tiles_of(steps, STEPS_AT_ONCE);
    for (int64_t part = 0; part < parts; part++)
        for (int64_t panel = first; panel < last; panel++) {
            const REAL *from = weight + panel * steps * TILE;
            tile_sums *own = sums + panel - first;
            if (part)
                load_sums(own, tall);
            else
                begin_sums(tall);
            panel_sums(rows, row_tiles, from, from + steps * TILE, steps * part / parts, steps * (part + 1) / parts, tall);
            store_sums(own, tall);
        }
    write_sums(sums, bias, out, count, width, first, last);
}

// out [rows, outputs] = rows x weight^T + bias by all threads of a parallel region, each of which has called tiles_begin.
static void multiply_tiles(const REAL *tiles, const REAL *weight, const REAL *bias, REAL *out, int64_t rows,
                           int64_t outputs, int64_t inputs) {
    int64_t row_tiles = tiles_of(rows, EDGE), steps = tiles_of(inputs, DEEP), count = tiles_of(outputs, EDGE);
    int64_t first = count * omp_get_thread_num() / omp_get_num_threads();
    int64_t end = count * (omp_get_thread_num() + 1) / omp_get_num_threads();
    for (; first < end; first += PANELS_AT_ONCE)
        for (int64_t tile = 0; tile < row_tiles; tile += TALL_TILES) {
            int64_t last = first + PANELS_AT_ONCE < end ? first + PANELS_AT_ONCE : end;
            int64_t top = tile * EDGE, left = rows - top < TALL_TILES * EDGE ? rows - top : TALL_TILES * EDGE;
#define PANELS(tall) \
    panels(tiles + tile * TILE, row_tiles, weight, bias, out + top * outputs, left, steps, outputs, first, last, tall)
            switch (tiles_of(left, EDGE)) {
            case 1: PANELS(1); break;
            case 2: PANELS(2); break;
            case 3: PANELS(3); break;
            case 4: PANELS(4); break;
            }
        }
#pragma omp barrier
}
#else
void NAME(tiles_ready)(int64_t *ready) { *ready = 0; }
#endif
