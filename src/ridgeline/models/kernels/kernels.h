// The kernels once per number format: kernels.c includes this file with REAL, READ, WRITE and NAME defined.
// Everything is computed in float and rounded once, when it is stored.

// out = x / sqrt(mean(x^2) + eps) * (weight + offset), for `rows` rows of `width` numbers.
// With `delta` the residual stream takes it in first: x += delta, rounded, then normalised.
// Rows come in `inner` pieces per `outer_stride` (heads inside a fused projection); otherwise inner = rows.
void NAME(rms_norm)(REAL *x, const REAL *delta, const REAL *weight, REAL *out, int64_t rows, int64_t width,
                    int64_t inner, int64_t outer_stride, float eps, float offset) {
#pragma omp parallel for schedule(static) if (rows * width > 4096)
    for (int64_t row = 0; row < rows; row++) {
        int64_t place = row / inner * outer_stride + row % inner * width;
        REAL *from = x + place, *to = out + place;
        float sum = 0;
        if (delta) {
            const REAL *add = delta + place;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) from[i] = WRITE(READ(from[i]) + READ(add[i]));
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += READ(from[i]) * READ(from[i]);
        float scale = 1 / sqrtf(sum / width + eps);
#pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = WRITE(READ(from[i]) * scale * (READ(weight[i]) + offset));
    }
}

// out[row] = act(gate[row]) * up[row], where in[row] holds gate and up one behind the other.
void NAME(gate)(const REAL *in, REAL *out, int64_t rows, int64_t width, int64_t gelu) {
#pragma omp parallel for schedule(static) if (rows * width > 4096)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *gate = in + 2 * row * width, *up = gate + width;
        REAL *to = out + row * width;
        if (gelu) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                float g = READ(gate[i]), inner = 0.7978845608f * (g + 0.044715f * g * g * g);
                // g * (1 + tanh(y)) / 2 = g / (1 + exp(-2 y))
                to[i] = WRITE(g / (1 + exp_(-2 * inner)) * READ(up[i]));
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                float g = READ(gate[i]);
                to[i] = WRITE(g / (1 + exp_(-g)) * READ(up[i]));
            }
        }
    }
}

// Turns queries and keys by the angles of their positions and stores keys and values in the cache.
// qkv [rows, (heads + 2 kv_heads) * size]; cosine, sine [rows, turned] floats; turned = 0: positions are not encoded.
// Keys lie in blocks of LANES positions, [slot, kv_head, position / LANES, size, LANES], so that scores of LANES keys
// are formed side by side; values lie [slot, kv_head, position, size].
void NAME(rotate_and_store)(REAL *qkv, const float *cosine, const float *sine, REAL *keys, REAL *values,
                            const int64_t *slots, const int64_t *positions, int64_t rows, int64_t heads,
                            int64_t kv_heads, int64_t size, int64_t turned, int64_t capacity) {
    int64_t width = (heads + 2 * kv_heads) * size, half = turned / 2;
#pragma omp parallel for schedule(static) if (rows > 3)
    for (int64_t row = 0; row < rows; row++) {
        REAL *line = qkv + row * width;
        const float *c = cosine + row * turned, *s = sine + row * turned;
        for (int64_t head = 0; head < heads + kv_heads; head++) {
            REAL *part = line + head * size;
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float first = READ(part[i]), second = READ(part[i + half]);
                part[i] = WRITE(first * c[i] - second * s[i]);
                part[i + half] = WRITE(second * c[i + half] + first * s[i + half]);
            }
        }
        int64_t slot = slots[row], position = positions[row];
        for (int64_t head = 0; head < kv_heads; head++) {
            const REAL *key = line + (heads + head) * size, *value = line + (heads + kv_heads + head) * size;
            int64_t page = (slot * kv_heads + head) * capacity;
            REAL *block = keys + (page + position / LANES * LANES) * size + position % LANES;
            for (int64_t i = 0; i < size; i++) block[i * LANES] = key[i];
            memcpy(values + (page + position) * size, value, size * sizeof(REAL));
        }
    }
}

// Adds positions [begin, end) of one page of the cache to `group` running softmax averages.
static inline void NAME(absorb)(const float *query, const REAL *keys, const REAL *values, int64_t begin, int64_t end,
                                int64_t group, int64_t size, float cap, float *top, float *mass, float *average) {
    for (int64_t start = begin / LANES * LANES; start < end; start += LANES) {
        const REAL *block = keys + start * size;
        float scores[MAX_GROUP][LANES];
        for (int64_t g = 0; g < group; g++) {
            float *score = scores[g];
            const float *q = query + g * size;
            for (int64_t lane = 0; lane < LANES; lane++) score[lane] = 0;
            for (int64_t i = 0; i < size; i++) {
                float weight = q[i];
                const REAL *line = block + i * LANES;
#pragma omp simd
                for (int64_t lane = 0; lane < LANES; lane++) score[lane] += weight * READ(line[lane]);
            }
        }
        int64_t first = begin > start ? begin - start : 0, last = end - start < LANES ? end - start : LANES;
        for (int64_t g = 0; g < group; g++) {
            float *score = scores[g], *out = average + g * size, best = top[g], sum = 0;
            if (cap > 0)
                for (int64_t lane = first; lane < last; lane++) score[lane] = cap * tanhf(score[lane] / cap);
            for (int64_t lane = first; lane < last; lane++) best = score[lane] > best ? score[lane] : best;
            float fade = exp_(top[g] - best);
#pragma omp simd reduction(+ : sum)
            for (int64_t lane = 0; lane < LANES; lane++) {
                float p = lane >= first && lane < last ? exp_(score[lane] - best) : 0;
                score[lane] = p;
                sum += p;
            }
            top[g] = best;
            mass[g] = mass[g] * fade + sum;
            if (fade != 1)
#pragma omp simd
                for (int64_t i = 0; i < size; i++) out[i] *= fade;
        }
        for (int64_t lane = first; lane < last; lane++) {
            const REAL *value = values + (start + lane) * size;
            for (int64_t g = 0; g < group; g++) {
                float p = scores[g][lane], *out = average + g * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) out[i] += p * READ(value[i]);
            }
        }
    }
}

// The usual head sizes as constants, so that the compiler unrolls them.
static void NAME(absorb_sized)(const float *query, const REAL *keys, const REAL *values, int64_t begin, int64_t end,
                               int64_t group, int64_t size, float cap, float *top, float *mass, float *average) {
    switch (size) {
    case 64: NAME(absorb)(query, keys, values, begin, end, group, 64, cap, top, mass, average); break;
    case 128: NAME(absorb)(query, keys, values, begin, end, group, 128, cap, top, mass, average); break;
    case 256: NAME(absorb)(query, keys, values, begin, end, group, 256, cap, top, mass, average); break;
    default: NAME(absorb)(query, keys, values, begin, end, group, size, cap, top, mass, average);
    }
}

// One query position per row over two pages: the prompt, shared by all completions of it, and the row's own tokens.
// qkv as above (only queries are read); out [rows, heads * size]. `window` > 0 hides what is that far back or further.
void NAME(attend)(const REAL *qkv, REAL *out, const REAL *prompt_keys, const REAL *prompt_values,
                  const REAL *own_keys, const REAL *own_values, const int64_t *prompts, const int64_t *prompt_lengths,
                  const int64_t *slots, const int64_t *own_lengths, int64_t rows, int64_t heads, int64_t kv_heads,
                  int64_t size, int64_t prompt_capacity, int64_t own_capacity, int64_t window, float scale,
                  float cap) {
    int64_t width = (heads + 2 * kv_heads) * size, group = heads / kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic, 4)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < kv_heads; head++) {
            float query[MAX_GROUP * MAX_SIZE], average[MAX_GROUP * MAX_SIZE], top[MAX_GROUP], mass[MAX_GROUP];
            const REAL *from = qkv + row * width + head * group * size;
            for (int64_t i = 0; i < group * size; i++) query[i] = READ(from[i]) * scale, average[i] = 0;
            for (int64_t g = 0; g < group; g++) top[g] = -1e30f, mass[g] = 0;
            int64_t before = prompt_lengths[row], own = own_lengths[row];
            int64_t start = window > 0 && before + own > window ? before + own - window : 0;
            int64_t prompt_page = (prompts[row] * kv_heads + head) * prompt_capacity * size;
            int64_t own_page = (slots[row] * kv_heads + head) * own_capacity * size;
            if (start < before)
                NAME(absorb_sized)(query, prompt_keys + prompt_page, prompt_values + prompt_page, start, before, group,
                                   size, cap, top, mass, average);
            NAME(absorb_sized)(query, own_keys + own_page, own_values + own_page, start > before ? start - before : 0,
                               own, group, size, cap, top, mass, average);
            REAL *to = out + row * heads * size + head * group * size;
            for (int64_t g = 0; g < group; g++)
                for (int64_t i = 0; i < size; i++) to[g * size + i] = WRITE(average[g * size + i] / mass[g]);
        }
}
