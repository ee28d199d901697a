// Attention of whole texts laid end to end, with its gradient; once per number format, as kernels.h.
//
// `spans` [count, 4]: where a text's own tokens start and how many they are; where its prefix starts and how many
// tokens that has (0: none). A token sees the prefix of its text, and its own text up to itself; `window` > 0 hides
// what is that far back or further. Texts of one family [families[f], families[f + 1]) share a prefix, and the prefix,
// itself a text without prefix, comes first of its family. So a family's gradients are summed by one thread, in order.
// qkv [tokens, (heads + 2 kv_heads) * size]; out [tokens, heads * size]; lse [tokens, heads].

#define ROUND_UP(x) (((x) + WIDE - 1) / WIDE * WIDE)

// What one thread works in: keys and values of prefix and text in float, a tile of queries, and their scores. A head is
// `broad` wide there: its size, filled up with zeros to whole vectors.
typedef struct {
    float *keys, *keys_across, *values, *values_across, *queries, *outputs, *scores, *slopes;
    int64_t room; // positions
} NAME(Desk);

static float *NAME(floats)(int64_t count) { return aligned_alloc(64, ((count + 1) * sizeof(float) + 63) / 64 * 64); }

static NAME(Desk) NAME(new_desk)(int64_t room, int64_t broad) {
    NAME(Desk) desk = {.room = ROUND_UP(room)};
    float **places[] = {&desk.keys,    &desk.keys_across, &desk.values, &desk.values_across,
                        &desk.queries, &desk.outputs,     &desk.scores, &desk.slopes};
    for (int i = 0; i < 8; i++) *places[i] = NAME(floats)(i < 4 ? desk.room * broad : QUERIES * (i < 6 ? broad : desk.room));
    return desk;
}

static void NAME(clear_desk)(NAME(Desk) desk) {
    float *places[] = {desk.keys, desk.keys_across, desk.values, desk.values_across,
                       desk.queries, desk.outputs, desk.scores, desk.slopes};
    for (int i = 0; i < 8; i++) free(places[i]);
}

// Rows [0, count) of `from` as floats, behind `before` rows that are there; and across, [size, room].
static void NAME(bring)(const REAL *from, int64_t stride, int64_t before, int64_t count, int64_t size, int64_t room,
                        float *along, float *across) {
    int64_t broad = ROUND_UP(size);
    for (int64_t t = 0; t < count; t++) {
        float *line = along + (before + t) * broad;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) line[i] = READ(from[t * stride + i]);
        for (int64_t i = size; i < broad; i++) line[i] = 0;
    }
    if (!across) return;
    for (int64_t t = before; t < before + count; t++)
        for (int64_t i = 0; i < size; i++) across[i * room + t] = along[t * broad + i];
}

// Keys and values of a text's prefix and of the text; beyond the end zeros, as whole vectors are computed with.
static void NAME(bring_context)(NAME(Desk) desk, const REAL *qkv, const int64_t *span, int64_t head, int64_t heads,
                                int64_t kv_heads, int64_t size, int values_across) {
    int64_t width = (heads + 2 * kv_heads) * size, total = span[3] + span[1], broad = ROUND_UP(size);
    const REAL *keys = qkv + (heads + head) * size, *values = keys + kv_heads * size;
    float *across = values_across ? desk.values_across : 0;
    for (int64_t part = 0, before = 0; part < 2; part++) { // the prefix, then the text
        int64_t start = part ? span[0] : span[2], count = part ? span[1] : span[3];
        NAME(bring)(keys + start * width, width, before, count, size, desk.room, desk.keys, desk.keys_across);
        NAME(bring)(values + start * width, width, before, count, size, desk.room, desk.values, across);
        before += count;
    }
    for (int64_t t = total; t < ROUND_UP(total); t++)
        for (int64_t i = 0; i < broad; i++) {
            desk.keys[t * broad + i] = desk.values[t * broad + i] = 0;
            desk.keys_across[i * desk.room + t] = 0;
            if (across) across[i * desk.room + t] = 0;
        }
}

// First and one-past-last visible position of the text's query `at`.
static inline int64_t NAME(first_seen)(const int64_t *span, int64_t at, int64_t window) {
    int64_t end = span[3] + at + 1;
    return window > 0 && end > window ? end - window : 0;
}

static void NAME(forward_text)(NAME(Desk) desk, const REAL *qkv, REAL *out, float *lse, const int64_t *span,
                               int64_t head, int64_t heads, int64_t kv_heads, int64_t size, int64_t window,
                               float scale) {
    int64_t width = (heads + 2 * kv_heads) * size, group = heads / kv_heads, broad = ROUND_UP(size);
    NAME(bring_context)(desk, qkv, span, head, heads, kv_heads, size, 0);
    for (int64_t first = 0; first < span[1]; first += QUERIES)
        for (int64_t g = head * group; g < (head + 1) * group; g++) {
            int64_t count = span[1] - first < QUERIES ? span[1] - first : QUERIES;
            int64_t seen = ROUND_UP(span[3] + first + count);
            NAME(bring)(qkv + (span[0] + first) * width + g * size, width, 0, count, size, 0, desk.queries, 0);
            multiply(desk.queries, broad, 1, desk.keys_across, desk.room, desk.scores, desk.room, count, seen, size, 0);
            for (int64_t q = 0; q < count; q++) {
                float *line = desk.scores + q * desk.room, best = -1e30f, sum = 0;
                int64_t low = NAME(first_seen)(span, first + q, window), high = span[3] + first + q + 1;
#pragma omp simd reduction(max : best)
                for (int64_t k = low; k < high; k++) best = line[k] > best ? line[k] : best;
#pragma omp simd reduction(+ : sum)
                for (int64_t k = low; k < high; k++) sum += line[k] = exp_((line[k] - best) * scale);
                for (int64_t k = 0; k < low; k++) line[k] = 0;
                for (int64_t k = high; k < seen; k++) line[k] = 0;
                float inverse = 1 / sum;
#pragma omp simd
                for (int64_t k = low; k < high; k++) line[k] *= inverse;
                lse[(span[0] + first + q) * heads + g] = best * scale + logf(sum);
            }
            multiply(desk.scores, desk.room, 1, desk.values, broad, desk.outputs, broad, count, broad, seen, 0);
            for (int64_t q = 0; q < count; q++) {
                REAL *to = out + ((span[0] + first + q) * heads + g) * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) to[i] = WRITE(desk.outputs[q * broad + i]);
            }
        }
}

void NAME(ragged)(const REAL *qkv, REAL *out, float *lse, const int64_t *spans, int64_t count, int64_t longest,
                  int64_t heads, int64_t kv_heads, int64_t size, int64_t window, float scale) {
#pragma omp parallel
    {
        NAME(Desk) desk = NAME(new_desk)(longest, ROUND_UP(size));
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t text = 0; text < count; text++)
            for (int64_t head = 0; head < kv_heads; head++)
                NAME(forward_text)(desk, qkv, out, lse, spans + 4 * text, head, heads, kv_heads, size, window, scale);
        NAME(clear_desk)(desk);
    }
}

// Gradients of a text's queries into `slope` (the place of d qkv), of its context's keys and values into d_keys, d_values.
static void NAME(backward_text)(NAME(Desk) desk, const REAL *qkv, const REAL *out, const REAL *d_out, const float *lse,
                                REAL *d_qkv, float *d_keys, float *d_values, const int64_t *span, int64_t head,
                                int64_t heads, int64_t kv_heads, int64_t size, int64_t window, float scale) {
    int64_t width = (heads + 2 * kv_heads) * size, group = heads / kv_heads, broad = ROUND_UP(size);
    NAME(bring_context)(desk, qkv, span, head, heads, kv_heads, size, 1);
    memset(d_keys, 0, ROUND_UP(span[3] + span[1]) * broad * sizeof(float));
    memset(d_values, 0, ROUND_UP(span[3] + span[1]) * broad * sizeof(float));
    for (int64_t first = 0; first < span[1]; first += QUERIES)
        for (int64_t g = head * group; g < (head + 1) * group; g++) {
            int64_t count = span[1] - first < QUERIES ? span[1] - first : QUERIES;
            int64_t seen = ROUND_UP(span[3] + first + count), top = span[0] + first;
            NAME(bring)(qkv + top * width + g * size, width, 0, count, size, 0, desk.queries, 0);
            NAME(bring)(d_out + (top * heads + g) * size, heads * size, 0, count, size, 0, desk.outputs, 0);
            multiply(desk.queries, broad, 1, desk.keys_across, desk.room, desk.scores, desk.room, count, seen, size, 0);
            multiply(desk.outputs, broad, 1, desk.values_across, desk.room, desk.slopes, desk.room, count, seen, size, 0);
            for (int64_t q = 0; q < count; q++) {
                float *score = desk.scores + q * desk.room, *slope = desk.slopes + q * desk.room, along = 0;
                const REAL *was = out + ((top + q) * heads + g) * size;
                float level = lse[(top + q) * heads + g];
                int64_t low = NAME(first_seen)(span, first + q, window), high = span[3] + first + q + 1;
#pragma omp simd reduction(+ : along)
                for (int64_t i = 0; i < size; i++) along += READ(was[i]) * desk.outputs[q * broad + i];
                for (int64_t k = 0; k < low; k++) score[k] = slope[k] = 0;
                for (int64_t k = high; k < seen; k++) score[k] = slope[k] = 0;
#pragma omp simd
                for (int64_t k = low; k < high; k++) {
                    float p = exp_(score[k] * scale - level);
                    score[k] = p;
                    slope[k] = p * (slope[k] - along) * scale;
                }
            }
            multiply(desk.scores, 1, desk.room, desk.outputs, broad, d_values, broad, seen, broad, count, 1);
            multiply(desk.slopes, 1, desk.room, desk.queries, broad, d_keys, broad, seen, broad, count, 1);
            multiply(desk.slopes, desk.room, 1, desk.keys, broad, desk.outputs, broad, count, broad, seen, 0);
            for (int64_t q = 0; q < count; q++) {
                REAL *to = d_qkv + (top + q) * width + g * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) to[i] = WRITE(desk.outputs[q * broad + i]);
            }
        }
}

// d qkv [as qkv] from d_out [as out]; a prefix's keys and values get what all texts of its family send them.
void NAME(ragged_backward)(const REAL *qkv, const REAL *out, const REAL *d_out, const float *lse, REAL *d_qkv,
                           const int64_t *spans, const int64_t *families, int64_t count, int64_t longest,
                           int64_t heads, int64_t kv_heads, int64_t size, int64_t window, float scale) {
    int64_t width = (heads + 2 * kv_heads) * size, broad = ROUND_UP(size);
#pragma omp parallel
    {
        NAME(Desk) desk = NAME(new_desk)(longest, broad);
        float *own[2], *shared[2];
        for (int kind = 0; kind < 2; kind++)
            own[kind] = NAME(floats)(desk.room * broad), shared[kind] = NAME(floats)(desk.room * broad);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t family = 0; family < count; family++)
            for (int64_t head = 0; head < kv_heads; head++) {
                for (int kind = 0; kind < 2; kind++) memset(shared[kind], 0, desk.room * broad * sizeof(float));
                // The prefix last, when all that its family sends is there.
                for (int64_t text = families[family + 1] - 1; text >= families[family]; text--) {
                    const int64_t *span = spans + 4 * text;
                    NAME(backward_text)(desk, qkv, out, d_out, lse, d_qkv, own[0], own[1], span, head, heads, kv_heads,
                                        size, window, scale);
                    int is_prefix = families[family + 1] - families[family] > 1 && text == families[family];
                    for (int kind = 0; kind < 2; kind++) {
                        for (int64_t i = 0; i < span[3] * broad; i++) shared[kind][i] += own[kind][i];
                        for (int64_t t = 0; t < span[1]; t++) {
                            REAL *to = d_qkv + (span[0] + t) * width + (heads + kind * kv_heads + head) * size;
                            const float *from = own[kind] + (span[3] + t) * broad, *more = shared[kind] + t * broad;
                            if (is_prefix)
                                for (int64_t i = 0; i < size; i++) to[i] = WRITE(from[i] + more[i]);
                            else
                                for (int64_t i = 0; i < size; i++) to[i] = WRITE(from[i]);
                        }
                    }
                }
            }
        NAME(clear_desk)(desk);
        for (int kind = 0; kind < 2; kind++) free(own[kind]), free(shared[kind]);
    }
}
