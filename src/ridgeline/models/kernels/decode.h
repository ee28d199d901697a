// A whole decoding step in one call: every layer's norms, products and attention, the threads kept together throughout.
// It computes what rollout/native/decoder.py does operation by operation. Needs the tiles of AMX.

struct norm { // out = x / rms(x) * (weight + offset), over pieces of `width` numbers; weight 0: none
    const REAL *weight;
    int64_t width;
    float eps, offset;
};

struct product { // packed as tiles.h says; bias 0: none
    const REAL *weight, *bias;
};

struct layer {
    struct norm before_attention, after_attention, before_mlp, after_mlp, query_norm, key_norm;
    struct product queries_keys_values, out, gate_up, down;
    const REAL *prompt_keys, *prompt_values;
    REAL *own_keys, *own_values;
    const float *cosine, *sine; // [rows, turned]
    int64_t turned, window;
    double scale;
};

struct shape {
    int64_t layers, hidden, inner, heads, kv_heads, size, vocabulary, gelu, prompt_capacity, own_capacity;
    struct norm last_norm;
    struct product head;
};

struct rows { // of a step, as Rows in decoder.py
    const int64_t *prompts, *prompt_lengths, *slots, *written;
    int64_t count;
};

#ifdef TILES
// The stream takes in what the last part made (normalised first, in some families), and the next part reads it as tiles.
static void enter(REAL *stream, REAL *delta, struct norm after, struct norm before, REAL *tiles, int64_t rows,
                  int64_t width) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        REAL *x = stream + row * width, *add = delta ? delta + row * width : 0, read[width];
        if (add && after.weight) norm_row_bfloat16(add, 0, after.weight, add, width, after.eps, after.offset);
        if (before.weight)
            norm_row_bfloat16(x, add, before.weight, read, width, before.eps, before.offset);
        else
            for (int64_t i = 0; i < width; i++) read[i] = x[i] = add ? WRITE(READ(x[i]) + READ(add[i])) : x[i];
        place(tiles, tiles_of(rows, EDGE), row, 0, read, width);
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
static void attention(REAL *qkv, REAL *tiles, const struct layer *layer, const struct shape *shape,
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
            REAL mixed[group * size];
            attend_tiles(&own, qkv + row * width + head * group * size, mixed,
                         layer->prompt_keys + prompt * key_numbers(size),
                         layer->prompt_values + prompt * value_numbers(size),
                         layer->own_keys + page * key_numbers(size), layer->own_values + page * value_numbers(size),
                         rows->prompt_lengths[row], rows->written[row] + 1, group, size, shape->own_capacity,
                         layer->window, layer->scale);
            place(tiles, tiles_of(rows->count, EDGE), row, head * group * size, mixed, group * size);
        }
}

static void open_gates(const REAL *gate_up, REAL *tiles, int64_t rows, int64_t width, int64_t gelu) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *gate = gate_up + 2 * row * width;
        REAL opened[width];
        gate_row_bfloat16(gate, gate + width, opened, width, gelu);
        place(tiles, tiles_of(rows, EDGE), row, 0, opened, width);
    }
}

// stream [rows, hidden] holds the embedded tokens and is used up; logits [rows, vocabulary].
void NAME(decode)(REAL *stream, REAL *logits, const struct layer *layers, const struct shape *shape,
                  const struct rows *rows) {
    int64_t hidden = shape->hidden, inner = shape->inner, mixed = shape->heads * shape->size, count = rows->count;
    int64_t wide = mixed + 2 * shape->kv_heads * shape->size, widest = hidden > inner ? hidden : inner;
    widest = widest > mixed ? widest : mixed;
    int64_t in_tiles = tiles_of(count, EDGE) * tiles_of(widest, DEEP) * TILE;
    int64_t between = count * (wide > 2 * inner ? wide : 2 * inner);
    REAL *tiles = aligned_alloc(64, tiles_of((in_tiles + between + count * hidden) * sizeof(REAL), 64) * 64);
    REAL *made = tiles + in_tiles, *delta = made + between; // what a product makes, inside a part and at its end
    memset(tiles, 0, in_tiles * sizeof(REAL));
#pragma omp parallel
    {
        struct norm none = {0}, after = none;
        tiles_begin();
        for (int64_t i = 0; i < shape->layers; i++) {
            const struct layer *layer = layers + i;
            enter(stream, i ? delta : 0, after, layer->before_attention, tiles, count, hidden);
            multiply_tiles(tiles, layer->queries_keys_values.weight, layer->queries_keys_values.bias, made, count, wide,
                           hidden);
            attention(made, tiles, layer, shape, rows);
            multiply_tiles(tiles, layer->out.weight, layer->out.bias, delta, count, hidden, mixed);
            enter(stream, delta, layer->after_attention, layer->before_mlp, tiles, count, hidden);
            multiply_tiles(tiles, layer->gate_up.weight, layer->gate_up.bias, made, count, 2 * inner, hidden);
            open_gates(made, tiles, count, inner, shape->gelu);
            multiply_tiles(tiles, layer->down.weight, layer->down.bias, delta, count, hidden, inner);
            after = layer->after_mlp;
        }
        enter(stream, shape->layers ? delta : 0, after, shape->last_norm, tiles, count, hidden);
        multiply_tiles(tiles, shape->head.weight, shape->head.bias, logits, count, shape->vocabulary, hidden);
        _tile_release();
    }
    free(tiles);
}
#endif
