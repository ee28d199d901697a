// Products of many rows in the tiles of AMX: out = left x right, bfloat16 in and out, float sums. The right side is
// laid out as the tiles want it piece by piece, each thread its own columns, and stays in the second cache meanwhile.

#define PANELS_OF_CHUNK 12 // panels of 32 columns that a chunk along the depth should leave room for

#ifdef TILES
// Up to 32 rows of 32 numbers as two tiles, [2][16 rows][32].
static inline void lay_rows(const REAL *from, int64_t stride, int64_t rows, int64_t depth, REAL *to) {
    __mmask32 mask = first_lanes(depth);
    for (int64_t row = 0; row < SIDE; row++)
        _mm512_storeu_si512(to + row * DEEP, row < rows ? _mm512_maskz_loadu_epi16(mask, from + row * stride)
                                                        : _mm512_setzero_si512());
}

// 32 numbers along the depth of up to 32 columns as two tiles of pairs, [2][16 pairs][16 columns][2].
static inline void lay_right(const REAL *right, int64_t stride, int64_t across, int64_t step, int64_t panel,
                             int64_t depth, int64_t columns, REAL *to) {
    int64_t deep = depth - step * DEEP, wide = columns - panel * SIDE;
    if (!across) {
        pair_rows(right + step * DEEP * stride + panel * SIDE, stride, deep, wide, (__m512i *)to);
        return;
    }
    __m512i lines[SIDE];
    lay_rows(right + panel * SIDE * stride + step * DEEP, stride, wide, deep, (REAL *)lines);
    turn_pairs(lines, to);
    turn_pairs(lines + EDGE, to + STEP / 2);
}

static inline void round_square(square *from, REAL *to, int64_t stride, int64_t rows, int64_t columns) {
    __mmask32 mask = first_lanes(columns);
    for (int64_t i = 0; i < SIDE && i < rows; i++) {
        __m512 left = _mm512_load_ps((*from)[i / EDGE * 2][i % EDGE]);
        __m512 right = _mm512_load_ps((*from)[i / EDGE * 2 + 1][i % EDGE]);
        _mm512_mask_storeu_epi16(to + i * stride, mask, (__m512i)_mm512_cvtne2ps_pbh(right, left));
    }
}

// What a thread works in: kept, so that the pages need not be found again.
static void *own_room(int64_t bytes) {
    static __thread void *room;
    static __thread int64_t size;
    if (size < bytes) {
        free(room);
        room = aligned_alloc(64, bytes), size = bytes;
    }
    return room;
}

// left [rows, depth], right [depth, columns] or, with `across`, [columns, depth], out [rows, columns]; rows are as far
// apart as the strides say. The depth goes in chunks if a chunk of few panels would fill the second cache.
void NAME(broad_product)(const REAL *left, const REAL *right, REAL *out, int64_t rows, int64_t columns, int64_t depth,
                         int64_t left_stride, int64_t right_stride, int64_t across, int64_t threads) {
    int64_t steps = tiles_of(depth, DEEP), panels = tiles_of(columns, SIDE), lines = tiles_of(rows, SIDE);
    int64_t room = PAIRS_BYTES / (STEP * (int64_t)sizeof(REAL)); // tiles along the depth that are held at a time
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), all = omp_get_num_threads(), most = tiles_of(panels, all);
        int64_t chunks = tiles_of(steps, room / (most < PANELS_OF_CHUNK ? most : PANELS_OF_CHUNK));
        int64_t longest = tiles_of(steps, chunks), blocks = tiles_of(most, room / longest);
        int64_t wide = tiles_of(most, blocks);
        int64_t squares = wide * (chunks > 1 ? lines : 1), operands = (wide + 1) * longest * STEP;
        square *sums = own_room(squares * (int64_t)sizeof(square) + operands * (int64_t)sizeof(REAL));
        REAL *lain = (REAL *)(sums + squares), *mine = lain + longest * STEP;
        tiles_begin();
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                int64_t begin = steps * chunk / chunks, count = steps * (chunk + 1) / chunks - begin;
                int64_t first = panels * me / all, last = panels * (me + 1) / all, held = last - first;
                last = first + held * (block + 1) / blocks, first += held * block / blocks;
                for (int64_t panel = first; panel < last; panel++)
                    for (int64_t step = 0; step < count; step++)
                        lay_right(right, right_stride, across, begin + step, panel, depth, columns,
                                  mine + ((panel - first) * count + step) * STEP);
                int64_t parts = tiles_of(count, STEPS_OF_SIDE);
                for (int64_t line = 0; line < lines; line++) {
                    square *strip = sums + (chunks > 1 ? line * wide : 0);
                    for (int64_t step = 0; step < count; step++)
                        lay_rows(left + line * SIDE * left_stride + (begin + step) * DEEP, left_stride,
                                 rows - line * SIDE, depth - (begin + step) * DEEP, lain + step * STEP);
                    for (int64_t part = 0; part < parts; part++) {
                        int64_t from = count * part / parts, deep = count * (part + 1) / parts - from;
                        for (int64_t panel = first; panel < last; panel++) {
                            form_square(lain + from * STEP,
                                        mine + ((panel - first) * count + from) * STEP, deep, strip + panel - first,
                                        part == 0 && chunk == 0);
                            if (part == parts - 1 && chunk == chunks - 1)
                                round_square(strip + panel - first, out + line * SIDE * columns + panel * SIDE,
                                             columns, rows - line * SIDE, columns - panel * SIDE);
                        }
                    }
                }
            }
        _tile_release();
    }
}
#endif
