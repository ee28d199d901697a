// A whole decoding step in one call: every layer's norms, products and attention, the threads kept together throughout.
// It computes what rollout/native/decoder.py does operation by operation. Needs the tiles of AMX.

struct norm { // out = x / rms(x) * (weight + offset), over pieces of `width` numbers; weight 0: none
    const REAL *weight;
    int64_t width;
    float eps, offset;
};

struct layer {
    struct norm before_attention, after_attention, before_mlp, after_mlp, query_norm, key_norm;
    struct linear queries_keys_values[3], out, gate_up[2], down; // none: of no outputs
    const REAL *prompt_keys, *prompt_values;
    REAL *own_keys, *own_values;
    const float *cosine, *sine; // [rows, turned]
    int64_t turned, window;
    double scale;
};

struct shape {
    int64_t layers, hidden, inner, heads, kv_heads, size, vocabulary, gelu, prompt_capacity, own_capacity;
    struct norm last_norm;
    struct linear head;
};

struct rows { // of a step, as Rows in decoder.py
    const int64_t *prompts, *prompt_lengths, *slots, *written;
    int64_t count;
};

#ifdef TILES
// The stream takes in what the last part made (normalised first, in some families); the next part reads `read`.
static void enter(REAL *stream, REAL *delta, struct norm after, struct norm before, REAL *read, int64_t rows,
                  int64_t width) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        REAL *x = stream + row * width, *add = delta ? delta + row * width : 0, *to = read + row * width;
        if (add && after.weight) norm_row_bfloat16(add, 0, after.weight, add, width, after.eps, after.offset);
        if (before.weight)
            norm_row_bfloat16(x, add, before.weight, to, width, before.eps, before.offset);
        else
            for (int64_t i = 0; i < width; i++) to[i] = x[i] = add ? WRITE(READ(x[i]) + READ(add[i])) : x[i];
    }
}

static void norm_pieces(REAL *line, int64_t count, struct norm norm) {
    for (int64_t i = 0; norm.weight && i < count; i += norm.width)
        norm_row_bfloat16(line + i, 0, norm.weight, line + i, norm.width, norm.eps, norm.offset);
}

// Queries and keys of a row normalised and turned, keys and values put into its page.
static void store_row(REAL *line, const struct layer *layer, const struct shape *shape, const struct rows *rows,
                      int64_t row) {
    int64_t size = shape->size, heads = shape->heads, kv_heads = shape->kv_heads, capacity = shape->own_capacity;
    REAL *key = line + heads * size;
    norm_pieces(line, heads * size, layer->query_norm);
    norm_pieces(key, kv_heads * size, layer->key_norm);
    rotate_heads_bfloat16(line, layer->cosine + row * layer->turned, layer->sine + row * layer->turned, heads + kv_heads,
                          size, layer->turned);
    for (int64_t head = 0; head < kv_heads; head++, key += size) {
        int64_t page = (rows->slots[row] * kv_heads + head) * capacity;
        store_tiles(key, key + kv_heads * size, layer->own_keys + page * key_numbers(size),
                    layer->own_values + page * value_numbers(size), rows->written[row], size);
    }
}

// All rows are stored before any is read: a load from a line that still waits for its store would wait too.
static void attention(REAL *qkv, REAL *mixed, const struct layer *layer, const struct shape *shape,
                      const struct rows *rows) {
    int64_t size = shape->size, heads = shape->heads, kv_heads = shape->kv_heads, group = heads / kv_heads;
    int64_t width = (heads + 2 * kv_heads) * size;
    struct attention own = {0};
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows->count; row++) store_row(qkv + row * width, layer, shape, rows, row);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows->count; row++)
        for (int64_t head = 0; head < kv_heads; head++) {
            int64_t prompt = (rows->prompts[row] * kv_heads + head) * shape->prompt_capacity;
            int64_t page = (rows->slots[row] * kv_heads + head) * shape->own_capacity;
            attend_tiles(&own, qkv + row * width + head * group * size, mixed + (row * heads + head * group) * size,
                         layer->prompt_keys + prompt * key_numbers(size),
                         layer->prompt_values + prompt * value_numbers(size),
                         layer->own_keys + page * key_numbers(size), layer->own_values + page * value_numbers(size),
                         rows->prompt_lengths[row], rows->written[row] + 1, group, size, shape->own_capacity,
                         layer->window, layer->scale);
        }
}

// Into the place of the gates.
static void open_gates(REAL *gate_up, int64_t rows, int64_t width, int64_t gelu) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        REAL *gate = gate_up + 2 * row * width;
        gate_row_bfloat16(gate, gate + width, gate, width, gelu);
    }
}

// stream [rows, hidden] holds the embedded tokens and is used up; logits [rows, vocabulary].
void NAME(decode)(REAL *stream, REAL *logits, const struct layer *layers, const struct shape *shape,
                  const struct rows *rows) {
    int64_t hidden = shape->hidden, inner = shape->inner, mixed = shape->heads * shape->size, count = rows->count;
    int64_t qkv = mixed + 2 * shape->kv_heads * shape->size, widest = hidden > mixed ? hidden : mixed;
    int64_t deep = tiles_of(widest > inner ? widest : inner, DEEP) * DEEP, lines = tiles_of(count, EDGE) * EDGE;
    int64_t between = qkv > 2 * inner ? qkv : 2 * inner;
    int64_t threads = omp_get_max_threads(), numbers = threads * lines * deep + count * (between + widest + hidden);
    REAL *room = aligned_alloc(64, tiles_of(numbers * sizeof(REAL), 64) * 64);
    REAL *made = room + threads * lines * deep, *read = made + count * between, *delta = read + count * widest;
    struct product head = {&shape->head, 1, hidden};
#pragma omp parallel num_threads(threads)
    {
        REAL *turned = room + omp_get_thread_num() * lines * deep;
        struct norm none = {0}, after = none;
        tiles_begin();
        for (int64_t i = 0; i < shape->layers; i++) {
            const struct layer *layer = layers + i;
            struct product open = {layer->queries_keys_values, 3, hidden}, out = {&layer->out, 1, mixed};
            struct product gate_up = {layer->gate_up, 2, hidden}, down = {&layer->down, 1, inner};
            struct product then = {layer[1].queries_keys_values, 3, hidden};
            enter(stream, i ? delta : 0, after, layer->before_attention, read, count, hidden);
            multiply_tiles(open, out, read, hidden, turned, made, count);
            attention(made, read, layer, shape, rows);
            multiply_tiles(out, gate_up, read, mixed, turned, delta, count);
            enter(stream, delta, layer->after_attention, layer->before_mlp, read, count, hidden);
            multiply_tiles(gate_up, down, read, hidden, turned, made, count);
            open_gates(made, count, inner, shape->gelu);
            multiply_tiles(down, i + 1 < shape->layers ? then : head, made, 2 * inner, turned, delta, count);
            after = layer->after_mlp;
        }
        enter(stream, shape->layers ? delta : 0, after, shape->last_norm, read, count, hidden);
        multiply_tiles(head, head, read, hidden, turned, logits, count);
        _tile_release();
    }
    free(room);
}
#endif
