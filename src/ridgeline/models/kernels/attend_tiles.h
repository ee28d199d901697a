// Attention of a decoding step in the tiles of AMX, for queries that share keys; needs tiles.h.
//
// Keys and values lie as the instruction wants its second factor. Keys, in blocks of EDGE positions:
// [position / EDGE, size / DEEP, 16 pairs of numbers, EDGE positions, 2]; values, in blocks of DEEP positions:
// [position / DEEP, size / EDGE, 16 pairs of positions, EDGE numbers, 2]. What is missing to a full tile is zero.
// Queries are bfloat16 as they come; a weight of the softmax goes in as the sum of two bfloat16, so that nothing is lost to
// rounding: in rows g and HEADS + g of a tile where queries are few enough, else in two tiles.

#define HEADS (EDGE / 2)
#define SPAN 256 // positions whose scores are held at one time

#ifdef TILES
static inline int64_t key_numbers(int64_t size) { return tiles_of(size, DEEP) * DEEP; }
static inline int64_t value_numbers(int64_t size) { return tiles_of(size, EDGE) * EDGE; }

// Positions come in order; a block is cleared before its first, as what lies behind the last is computed with.
static inline void store_tiles(const REAL *key, const REAL *value, REAL *keys, REAL *values, int64_t position,
                               int64_t size) {
    keys += position / EDGE * EDGE * key_numbers(size);
    values += position / DEEP * DEEP * value_numbers(size);
    if (position % EDGE == 0) memset(keys, 0, EDGE * key_numbers(size) * sizeof(REAL));
    if (position % DEEP == 0) memset(values, 0, DEEP * value_numbers(size) * sizeof(REAL));
    keys += position % EDGE * 2;
    values += position % DEEP / 2 * DEEP + position % 2;
    for (int64_t i = 0; i < size; i++) keys[i / 2 * DEEP + i % 2] = key[i];
    for (int64_t i = 0; i < size; i++) values[i / EDGE * TILE + i % EDGE * 2] = value[i];
}

// Keys and values of whole texts into their pages. qkv [tokens, (heads + 2 kv_heads) * size]; spans as in texts.py.
void NAME(store_texts)(const REAL *qkv, REAL *keys, REAL *values, const int64_t *spans, const int64_t *pages,
                       int64_t texts, int64_t heads, int64_t kv_heads, int64_t size, int64_t capacity) {
    int64_t width = (heads + 2 * kv_heads) * size;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t text = 0; text < texts; text++)
        for (int64_t head = 0; head < kv_heads; head++) {
            const REAL *key = qkv + spans[4 * text] * width + (heads + head) * size;
            int64_t page = (pages[text] * kv_heads + head) * capacity;
            for (int64_t position = 0; position < spans[4 * text + 1]; position++, key += width)
                store_tiles(key, key + kv_heads * size, keys + page * key_numbers(size),
                            values + page * value_numbers(size), position, size);
        }
}

struct attention { // of up to EDGE queries while positions are walked, HEADS of them where `both` parts go in one tile
    REAL query[MAX_SIZE / DEEP][EDGE][DEEP], weights[2][SPAN / DEEP][EDGE][DEEP];
    float scores[EDGE][SPAN], average[MAX_SIZE / EDGE][EDGE][EDGE];
    float top[EDGE], mass[EDGE];
    int64_t begin[EDGE]; // the first position that each sees
    int both;
} __attribute__((aligned(64)));

static void begin_query(struct attention *own, int64_t query, const REAL *from, int64_t size) {
    for (int64_t start = 0; start < size; start += DEEP)
        memcpy(own->query[start / DEEP][query], from + start, (size - start < DEEP ? size - start : DEEP) * sizeof(REAL));
    own->top[query] = -1e30f, own->mass[query] = 0;
}

static void begin_averages(struct attention *own, int64_t size) {
    memset(own->average, 0, tiles_of(size, EDGE) * sizeof own->average[0]);
}

// scores [EDGE, SPAN] of `count` blocks of keys; `values` are what is read next.
static void tile_scores(struct attention *own, const REAL *keys, int64_t count, int64_t size, const REAL *values) {
    int64_t steps = tiles_of(size, DEEP);
    SETTLE();
    for (int64_t block = 0; block < count; block += 4) {
        int64_t left = count - block;
        const REAL *from = keys + block * steps * TILE, *later = values + block * steps * TILE;
        begin_sums(4);
        for (int64_t step = 0; step < steps; step++, from += TILE) {
            _tile_loadd(4, own->query[step], 64);
            _tile_loadd(5, from, 64);
            _tile_dpbf16ps(0, 4, 5);
            if (left > 1) {
                _tile_loadd(6, from + steps * TILE, 64);
                _tile_dpbf16ps(1, 4, 6);
            }
            if (left > 2) {
                _tile_loadd(7, from + 2 * steps * TILE, 64);
                _tile_dpbf16ps(2, 4, 7);
            }
            if (left > 3) {
                _tile_loadd(5, from + 3 * steps * TILE, 64);
                _tile_dpbf16ps(3, 4, 5);
            }
            int64_t bytes = (left < 4 ? left : 4) * TILE * (int64_t)sizeof(REAL);
            ASK(later, step, bytes);
        }
        _tile_stored(0, own->scores[0] + block * EDGE, sizeof own->scores[0]);
        if (left > 1) _tile_stored(1, own->scores[0] + (block + 1) * EDGE, sizeof own->scores[0]);
        if (left > 2) _tile_stored(2, own->scores[0] + (block + 2) * EDGE, sizeof own->scores[0]);
        if (left > 3) _tile_stored(3, own->scores[0] + (block + 3) * EDGE, sizeof own->scores[0]);
    }
}

// The running softmax of one query takes in its scores of positions [first, last) of `count`, a multiple of DEEP; what was
// summed before fades by the factor that is returned.
static float tile_softmax(struct attention *own, int64_t query, int64_t first, int64_t last, int64_t count, float scale) {
    REAL(*highs)[EDGE][DEEP] = own->weights[0], (*lows)[EDGE][DEEP] = own->weights[!own->both];
    int64_t low_row = own->both ? HEADS + query : query;
    float *score = own->scores[query], best = own->top[query], sum = 0;
    for (int64_t k = 0; k < first && k < count; k++) score[k] = -INFINITY;
    for (int64_t k = last; k < count; k++) score[k] = -INFINITY;
#pragma omp simd reduction(max : best)
    for (int64_t k = 0; k < count; k++) best = score[k] * scale > best ? score[k] * scale : best;
    __m512 sums = _mm512_setzero_ps();
    for (int64_t k = 0; k < count; k += LANES) {
        float weight[LANES] __attribute__((aligned(64)));
#pragma omp simd
        for (int64_t i = 0; i < LANES; i++) weight[i] = exp_(score[k + i] * scale - best);
        __m512 whole = _mm512_load_ps(weight);
        __m256i high = (__m256i)_mm512_cvtneps_pbh(whole);
        __m512 rounded = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
        __m256i low = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(whole, rounded));
        _mm256_store_si256((__m256i *)(highs[k / DEEP][query] + k % DEEP), high);
        _mm256_store_si256((__m256i *)(lows[k / DEEP][low_row] + k % DEEP), low);
        sums = _mm512_add_ps(sums, whole);
    }
    sum = _mm512_reduce_add_ps(sums);
    float fade = exp_(own->top[query] - best);
    own->top[query] = best;
    own->mass[query] = own->mass[query] * fade + sum;
    return fade;
}

// average += weights x values over `count` blocks of values; `next` is what is read afterwards.
static void tile_average(struct attention *own, REAL (*weights)[EDGE][DEEP], const REAL *values, int64_t count,
                         int64_t size, const REAL *next) {
    int64_t parts = tiles_of(size, EDGE);
    for (int64_t part = 0; part < parts; part += 4) {
        int64_t left = parts - part, bytes = (left < 4 ? left : 4) * TILE * (int64_t)sizeof(REAL);
        const REAL *from = values + part * TILE;
        load_sums((tile_sums *)own->average[part], left < 4 ? left : 4);
        for (int64_t block = 0; block < count; block++, from += parts * TILE) {
            _tile_loadd(4, weights[block], 64);
            _tile_loadd(5, from, 64);
            _tile_dpbf16ps(0, 4, 5);
            if (left > 1) {
                _tile_loadd(6, from + TILE, 64);
                _tile_dpbf16ps(1, 4, 6);
            }
            if (left > 2) {
                _tile_loadd(7, from + 2 * TILE, 64);
                _tile_dpbf16ps(2, 4, 7);
            }
            if (left > 3) {
                _tile_loadd(5, from + 3 * TILE, 64);
                _tile_dpbf16ps(3, 4, 5);
            }
            ASK(next + part * count * TILE, block, bytes);
        }
        store_sums((tile_sums *)own->average[part], left < 4 ? left : 4);
    }
}

// Takes in what `queries` see of the first `end` positions of one page; `after` is the page that is read next.
static void tile_absorb(struct attention *own, int64_t queries, const REAL *keys, const REAL *values, int64_t end,
                        int64_t size, float scale, const REAL *after) {
    int64_t begin = end;
    for (int64_t query = 0; query < queries; query++) begin = own->begin[query] < begin ? own->begin[query] : begin;
    if (begin == end) return;
    for (int64_t start = begin / DEEP * DEEP; start < end; start += SPAN) {
        int64_t stop = start + SPAN < end ? start + SPAN : end, blocks = tiles_of(stop - start, DEEP);
        const REAL *key = keys + start * key_numbers(size), *value = values + start * value_numbers(size);
        const REAL *next = stop < end ? key + SPAN * key_numbers(size) : after;
        tile_scores(own, key, tiles_of(stop - start, EDGE), size, value);
        for (int64_t query = 0; query < queries; query++) {
            int64_t hidden = own->begin[query] > start ? own->begin[query] - start : 0;
            float fade = tile_softmax(own, query, hidden, stop - start, blocks * DEEP, scale);
            if (fade == 1) continue;
            for (int64_t part = 0; part < tiles_of(size, EDGE); part++)
                for (int64_t row = query; row < EDGE; row += own->both ? HEADS : EDGE)
#pragma omp simd
                    for (int64_t i = 0; i < EDGE; i++) own->average[part][row][i] *= fade;
        }
        tile_average(own, own->weights[0], value, blocks, size, next);
        if (!own->both) tile_average(own, own->weights[1], value, blocks, size, next);
    }
}

// One query goes on from where another stands.
static void take_over(struct attention *own, int64_t query, const struct attention *other, int64_t others, int64_t size) {
    own->top[query] = other->top[others], own->mass[query] = other->mass[others];
    for (int64_t part = 0; part < tiles_of(size, EDGE); part++)
        memcpy(own->average[part][query], other->average[part][others], sizeof own->average[part][query]);
}

// What a query has read, with both parts in one tile.
static void write_average(const struct attention *own, int64_t query, int64_t size, REAL *out) {
    float share = 1 / own->mass[query];
    for (int64_t part = 0; part * EDGE < size; part++) {
        const float *high = own->average[part][query], *low = own->average[part][HEADS + query];
        int64_t count = size - part * EDGE < EDGE ? size - part * EDGE : EDGE;
#pragma omp simd
        for (int64_t i = 0; i < count; i++) out[part * EDGE + i] = WRITE((high[i] + low[i]) * share);
    }
}
#endif
