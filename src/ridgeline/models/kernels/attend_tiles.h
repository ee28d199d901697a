// Attention of a decoding step in the tiles of AMX, for heads that share a key head; needs tiles.h.
//
// Keys and values lie as the instruction wants its second factor. Keys, in blocks of EDGE positions:
// [position / EDGE, size / DEEP, 16 pairs of numbers, EDGE positions, 2]; values, in blocks of DEEP positions:
// [position / DEEP, size / EDGE, 16 pairs of positions, EDGE numbers, 2]. What is missing to a full tile is zero.
// Queries are bfloat16 as they come; a weight of the softmax goes in as the sum of two bfloat16 (rows g and HEADS + g),
// so that nothing is lost to rounding.

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

struct attention { // of up to HEADS heads of one row while positions are walked
    REAL query[MAX_SIZE / DEEP][EDGE][DEEP], weights[SPAN / DEEP][EDGE][DEEP];
    float scores[EDGE][SPAN], average[MAX_SIZE / EDGE][EDGE][EDGE];
    float top[HEADS], mass[HEADS];
} __attribute__((aligned(64)));

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

// The running softmax of one head takes in its scores of positions [first, last) of `count`, a multiple of DEEP; what was
// summed before fades by the factor that is returned.
static float tile_softmax(struct attention *own, int64_t head, int64_t first, int64_t last, int64_t count, float scale) {
    float *score = own->scores[head], best = own->top[head], sum = 0;
    for (int64_t k = 0; k < first; k++) score[k] = -INFINITY;
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
        _mm256_store_si256((__m256i *)(own->weights[k / DEEP][head] + k % DEEP), high);
        _mm256_store_si256((__m256i *)(own->weights[k / DEEP][HEADS + head] + k % DEEP), low);
        sums = _mm512_add_ps(sums, whole);
    }
    sum = _mm512_reduce_add_ps(sums);
    float fade = exp_(own->top[head] - best);
    own->top[head] = best;
    own->mass[head] = own->mass[head] * fade + sum;
    return fade;
}

// average += weights x values over `count` blocks of values; `next` is what is read afterwards.
static void tile_average(struct attention *own, const REAL *values, int64_t count, int64_t size, const REAL *next) {
    int64_t parts = tiles_of(size, EDGE);
    for (int64_t part = 0; part < parts; part += 4) {
        int64_t left = parts - part, bytes = (left < 4 ? left : 4) * TILE * (int64_t)sizeof(REAL);
        const REAL *from = values + part * TILE;
        load_sums((tile_sums *)own->average[part], left < 4 ? left : 4);
        for (int64_t block = 0; block < count; block++, from += parts * TILE) {
            _tile_loadd(4, own->weights[block], 64);
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

// Takes in positions [begin, end) of one page; `after` is the page that is read next.
static void tile_absorb(struct attention *own, const REAL *keys, const REAL *values, int64_t begin, int64_t end,
                        int64_t heads, int64_t size, float scale, const REAL *after) {
    for (int64_t start = begin / DEEP * DEEP; start < end; start += SPAN) {
        int64_t stop = start + SPAN < end ? start + SPAN : end, blocks = tiles_of(stop - start, DEEP);
        const REAL *key = keys + start * key_numbers(size), *value = values + start * value_numbers(size);
        tile_scores(own, key, tiles_of(stop - start, EDGE), size, value);
        for (int64_t head = 0; head < heads; head++) {
            float fade = tile_softmax(own, head, begin > start ? begin - start : 0, stop - start, blocks * DEEP, scale);
            if (fade == 1) continue;
            for (int64_t part = 0; part < tiles_of(size, EDGE); part++)
                for (int64_t row = head; row < EDGE; row += HEADS)
#pragma omp simd
                    for (int64_t i = 0; i < EDGE; i++) own->average[part][row][i] *= fade;
        }
        tile_average(own, value, blocks, size, stop < end ? key + SPAN * key_numbers(size) : after);
    }
}

// As attend_group of kernels.h, with pages of tiles. `own` begins as zeros; rows of it that are not used stay so.
static void attend_tiles(struct attention *own, const REAL *from, REAL *out, const REAL *prompt_keys,
                         const REAL *prompt_values, const REAL *own_keys, const REAL *own_values, int64_t before,
                         int64_t length, int64_t group, int64_t size, int64_t own_capacity, int64_t window, float scale) {
    int64_t start = window > 0 && before + length > window ? before + length - window : 0;
    for (int64_t first = 0; first < group; first += HEADS) {
        int64_t heads = group - first < HEADS ? group - first : HEADS;
        for (int64_t head = 0; head < heads; head++) {
            for (int64_t start = 0; start < size; start += DEEP)
                memcpy(own->query[start / DEEP][head], from + (first + head) * size + start,
                       (size - start < DEEP ? size - start : DEEP) * sizeof(REAL));
            own->top[head] = -1e30f, own->mass[head] = 0;
        }
        memset(own->average, 0, tiles_of(size, EDGE) * sizeof own->average[0]);
        if (start < before)
            tile_absorb(own, prompt_keys, prompt_values, start, before, heads, size, scale, own_keys);
        tile_absorb(own, own_keys, own_values, start > before ? start - before : 0, length, heads, size, scale,
                    own_keys + own_capacity * key_numbers(size));
        for (int64_t head = 0; head < heads; head++)
            for (int64_t part = 0; part * EDGE < size; part++) {
                const float *high = own->average[part][head], *low = own->average[part][HEADS + head];
                REAL *to = out + (first + head) * size + part * EDGE;
                int64_t count = size - part * EDGE < EDGE ? size - part * EDGE : EDGE;
                float share = 1 / own->mass[head];
#pragma omp simd
                for (int64_t i = 0; i < count; i++) to[i] = WRITE((high[i] + low[i]) * share);
            }
    }
}
#endif
