// The kernels once per number format: kernels.c includes this file with REAL, READ, WRITE and NAME defined.
// Everything is computed in float and rounded once, when it is stored.

static inline void NAME(norm_row)(REAL *x, const REAL *delta, const REAL *weight, REAL *out, int64_t width, float eps,
                                  float offset) {
    float sum = 0;
    if (delta) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) x[i] = WRITE(READ(x[i]) + READ(delta[i]));
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += READ(x[i]) * READ(x[i]);
    float scale = 1 / sqrtf(sum / width + eps);
#pragma omp simd
    for (int64_t i = 0; i < width; i++) out[i] = WRITE(READ(x[i]) * scale * (READ(weight[i]) + offset));
}

// out = x / sqrt(mean(x^2) + eps) * (weight + offset), for `rows` rows of `width` numbers.
// With `delta` the residual stream takes it in first: x += delta, rounded, then normalised.
// Rows come in `inner` pieces per `outer_stride` (heads inside a fused projection); otherwise inner = rows.
void NAME(rms_norm)(REAL *x, const REAL *delta, const REAL *weight, REAL *out, int64_t rows, int64_t width,
                    int64_t inner, int64_t outer_stride, float eps, float offset) {
#pragma omp parallel for schedule(static) if (rows * width > 4096)
    for (int64_t row = 0; row < rows; row++) {
        int64_t place = row / inner * outer_stride + row % inner * width;
        NAME(norm_row)(x + place, delta ? delta + place : 0, weight, out + place, width, eps, offset);
    }
}

static inline void NAME(gate_row)(const REAL *gate, const REAL *up, REAL *out, int64_t width, int64_t gelu) {
    if (gelu) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float g = READ(gate[i]), inner = 0.7978845608f * (g + 0.044715f * g * g * g);
            // g * (1 + tanh(y)) / 2 = g / (1 + exp(-2 y))
            out[i] = WRITE(g / (1 + exp_(-2 * inner)) * READ(up[i]));
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float g = READ(gate[i]);
            out[i] = WRITE(g / (1 + exp_(-g)) * READ(up[i]));
        }
    }
}

// out[row] = act(gate[row]) * up[row], where in[row] holds gate and up one behind the other.
void NAME(gate)(const REAL *in, REAL *out, int64_t rows, int64_t width, int64_t gelu) {
#pragma omp parallel for schedule(static) if (rows * width > 4096)
    for (int64_t row = 0; row < rows; row++)
        NAME(gate_row)(in + 2 * row * width, in + (2 * row + 1) * width, out + row * width, width, gelu);
}

// Turns the numbers of `heads` heads in place by the angles of a position.
static inline void NAME(rotate_heads)(REAL *part, const float *cosine, const float *sine, int64_t heads, int64_t size,
                                      int64_t turned) {
    int64_t half = turned / 2;
    for (int64_t head = 0; head < heads; head++, part += size) {
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float first = READ(part[i]), second = READ(part[i + half]);
            part[i] = WRITE(first * cosine[i] - second * sine[i]);
            part[i + half] = WRITE(second * cosine[i + half] + first * sine[i + half]);
        }
    }
}

// Keys lie in blocks of LANES positions, [slot, kv_head, position / LANES, size, LANES], so that scores of LANES keys
// are formed side by side; values lie [slot, kv_head, position, size]. Here of one page, that of a slot and head.
static inline void NAME(store)(const REAL *key, const REAL *value, REAL *keys, REAL *values, int64_t position,
                               int64_t size) {
    REAL *block = keys + position / LANES * LANES * size + position % LANES;
    for (int64_t i = 0; i < size; i++) block[i * LANES] = key[i];
    memcpy(values + position * size, value, size * sizeof(REAL));
}

// Turns queries and keys by the angles of their positions and stores keys and values in the cache.
// qkv [rows, (heads + 2 kv_heads) * size]; cosine, sine [rows, turned] floats; turned = 0: positions are not encoded.
void NAME(rotate_and_store)(REAL *qkv, const float *cosine, const float *sine, REAL *keys, REAL *values,
                            const int64_t *slots, const int64_t *positions, int64_t rows, int64_t heads,
                            int64_t kv_heads, int64_t size, int64_t turned, int64_t capacity) {
    int64_t width = (heads + 2 * kv_heads) * size;
#pragma omp parallel for schedule(static) if (rows > 3)
    for (int64_t row = 0; row < rows; row++) {
        REAL *line = qkv + row * width, *key = line + heads * size;
        NAME(rotate_heads)(line, cosine + row * turned, sine + row * turned, heads + kv_heads, size, turned);
        for (int64_t head = 0; head < kv_heads; head++, key += size) {
            int64_t page = (slots[row] * kv_heads + head) * capacity * size;
            NAME(store)(key, key + kv_heads * size, keys + page, values + page, positions[row], size);
        }
    }
}

// The cache is larger than the processor's, and its pages are too short for the processor to guess what comes next: while
// one stretch is computed with, the next is asked for, step by step.
#define STRETCH (BLOCKS * LANES * (int64_t)sizeof(REAL))
#define ASK(next, step, bytes) \
    for (int64_t ask = 0; ask < (bytes); ask += 64) __builtin_prefetch((const char *)(next) + (step) * (bytes) + ask, 0, 2)

// Scores of `group` queries with `blocks` x LANES keys, formed in registers while the numbers of a head are walked.
// The counts are constants where this is called.
static inline __attribute__((always_inline)) void NAME(score)(const float *query, const REAL *keys, float *scores,
                                                              int group, int blocks, int64_t size, const REAL *next) {
    lanes sums[GROUPS][BLOCKS];
    for (int g = 0; g < group; g++)
        for (int b = 0; b < blocks; b++) sums[g][b] = (lanes){0};
    for (int64_t i = 0; i < size; i++) {
        lanes key[BLOCKS];
        ASK(next, i, STRETCH * blocks / BLOCKS);
        for (int b = 0; b < blocks; b++) key[b] = READ_LANES(keys + (b * size + i) * LANES);
        for (int g = 0; g < group; g++) {
            float factor = query[g * size + i];
            for (int b = 0; b < blocks; b++) sums[g][b] += factor * key[b];
        }
    }
    for (int g = 0; g < group; g++)
        for (int b = 0; b < blocks; b++) *(lanes *)(scores + (g * BLOCKS + b) * LANES) = sums[g][b];
}

// average[g] += sum_k weights[g][k] values[k] over positions [first, last), `parts` x LANES numbers of a head at a time.
static inline __attribute__((always_inline)) void NAME(mix)(const float *weights, const REAL *values, float *average,
                                                            int64_t first, int64_t last, int group, int parts,
                                                            int64_t size, const REAL *next) {
    lanes sums[GROUPS][BLOCKS];
    for (int g = 0; g < group; g++)
        for (int b = 0; b < parts; b++) sums[g][b] = *(lanes *)(average + g * size + b * LANES);
    for (int64_t k = first; k < last; k++) {
        lanes value[BLOCKS];
        ASK(next, k, parts * LANES * (int64_t)sizeof(REAL));
        for (int b = 0; b < parts; b++) value[b] = READ_LANES(values + k * size + b * LANES);
        for (int g = 0; g < group; g++) {
            float factor = weights[g * BLOCKS * LANES + k];
            for (int b = 0; b < parts; b++) sums[g][b] += factor * value[b];
        }
    }
    for (int g = 0; g < group; g++)
        for (int b = 0; b < parts; b++) *(lanes *)(average + g * size + b * LANES) = sums[g][b];
}

// Running softmax averages of `group` queries take in positions [begin, end) of one page of the cache; `after` is what is
// read next.
static inline __attribute__((always_inline)) void NAME(absorb)(const float *query, const REAL *keys,
                                                               const REAL *values, int64_t begin, int64_t end,
                                                               int group, int64_t size, float cap, float *top,
                                                               float *mass, float *average, const REAL *after) {
    for (int64_t start = begin / LANES * LANES; start < end; start += BLOCKS * LANES) {
        float scores[GROUPS][BLOCKS * LANES];
        const REAL *block = keys + start * size, *value = values + start * size;
        int64_t first = begin > start ? begin - start : 0, last = end - start;
        switch (last > (BLOCKS - 1) * LANES ? BLOCKS : (last + LANES - 1) / LANES) {
        case 1: NAME(score)(query, block, scores[0], group, 1, size, value); break;
        case 2: NAME(score)(query, block, scores[0], group, 2, size, value); break;
#if BLOCKS > 2
        case 3: NAME(score)(query, block, scores[0], group, 3, size, value); break;
        case 4: NAME(score)(query, block, scores[0], group, 4, size, value); break;
#endif
        }
        const REAL *next = start + BLOCKS * LANES < end ? block + BLOCKS * LANES * size : after;
        last = last < BLOCKS * LANES ? last : BLOCKS * LANES;
        for (int g = 0; g < group; g++) {
            float *score = scores[g], *out = average + g * size, best = top[g], sum = 0;
            if (cap > 0)
                for (int64_t k = first; k < last; k++) score[k] = cap * tanhf(score[k] / cap);
#pragma omp simd reduction(max : best)
            for (int64_t k = first; k < last; k++) best = score[k] > best ? score[k] : best;
            float fade = exp_(top[g] - best);
#pragma omp simd reduction(+ : sum)
            for (int64_t k = first; k < last; k++) sum += score[k] = exp_(score[k] - best);
            top[g] = best;
            mass[g] = mass[g] * fade + sum;
            if (fade != 1)
#pragma omp simd
                for (int64_t i = 0; i < size; i++) out[i] *= fade;
        }
        int64_t i = 0;
        for (; i + BLOCKS * LANES <= size; i += BLOCKS * LANES)
            NAME(mix)(scores[0], value + i, average + i, first, last, group, BLOCKS, size, next);
        for (; i + LANES <= size; i += LANES)
            NAME(mix)(scores[0], value + i, average + i, first, last, group, 1, size, next);
        for (; i < size; i++)
            for (int g = 0; g < group; g++)
                for (int64_t k = first; k < last; k++) average[g * size + i] += scores[g][k] * READ(value[k * size + i]);
    }
}

// The number of queries as a constant.
static void NAME(absorb_group)(const float *query, const REAL *keys, const REAL *values, int64_t begin, int64_t end,
                               int64_t group, int64_t size, float cap, float *top, float *mass, float *average,
                               const REAL *after) {
#define ABSORB(count) NAME(absorb)(query, keys, values, begin, end, count, size, cap, top, mass, average, after)
    switch (group) {
    case 1: ABSORB(1); break;
    case 2: ABSORB(2); break;
#if GROUPS > 2
    case 3: ABSORB(3); break;
    case 4: ABSORB(4); break;
#endif
    }
}

// One query position of one row and the heads that share a key head, over two pages: `before` positions of the prompt,
// shared by all completions of it, and `own` ones of the row itself. query, out [group * size].
static void NAME(attend_group)(const REAL *from, REAL *out, const REAL *prompt_keys, const REAL *prompt_values,
                               const REAL *own_keys, const REAL *own_values, int64_t before, int64_t own,
                               int64_t group, int64_t size, int64_t own_capacity, int64_t window, float scale,
                               float cap) {
    float query[MAX_GROUP * MAX_SIZE], average[MAX_GROUP * MAX_SIZE], top[MAX_GROUP], mass[MAX_GROUP];
    for (int64_t i = 0; i < group * size; i++) query[i] = READ(from[i]) * scale, average[i] = 0;
    for (int64_t g = 0; g < group; g++) top[g] = -1e30f, mass[g] = 0;
    int64_t start = window > 0 && before + own > window ? before + own - window : 0;
    for (int64_t g = 0; g < group; g += GROUPS) {
        int64_t count = group - g < GROUPS ? group - g : GROUPS;
        if (start < before)
            NAME(absorb_group)(query + g * size, prompt_keys, prompt_values, start, before, count, size, cap, top + g,
                               mass + g, average + g * size, own_keys);
        NAME(absorb_group)(query + g * size, own_keys, own_values, start > before ? start - before : 0, own, count,
                           size, cap, top + g, mass + g, average + g * size, own_keys + own_capacity * size);
    }
    for (int64_t g = 0; g < group; g++)
        for (int64_t i = 0; i < size; i++) out[g * size + i] = WRITE(average[g * size + i] / mass[g]);
}

// Attention of one query position per row; qkv as above (only queries are read); out [rows, heads * size]. `window` > 0
// hides what is that far back or further.
void NAME(attend)(const REAL *qkv, REAL *out, const REAL *prompt_keys, const REAL *prompt_values,
                  const REAL *own_keys, const REAL *own_values, const int64_t *prompts, const int64_t *prompt_lengths,
                  const int64_t *slots, const int64_t *own_lengths, int64_t rows, int64_t heads, int64_t kv_heads,
                  int64_t size, int64_t prompt_capacity, int64_t own_capacity, int64_t window, float scale,
                  float cap) {
    int64_t width = (heads + 2 * kv_heads) * size, group = heads / kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic, 4)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < kv_heads; head++) {
            int64_t prompt = (prompts[row] * kv_heads + head) * prompt_capacity * size;
            int64_t page = (slots[row] * kv_heads + head) * own_capacity * size;
            NAME(attend_group)(qkv + row * width + head * group * size, out + (row * heads + head * group) * size,
                               prompt_keys + prompt, prompt_values + prompt, own_keys + page, own_values + page,
                               prompt_lengths[row], own_lengths[row], group, size, own_capacity, window, scale, cap);
        }
}
