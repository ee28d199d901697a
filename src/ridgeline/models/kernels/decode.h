// A whole decoding step in one call: every layer's norms, products and attention, the threads kept together throughout.
// It computes what rollout/native/decoder.py does operation by operation. Needs the tiles of AMX.

#define TOGETHER_FROM 128 // tokens of a prompt from which on it pays to put the queries of several rows into one tile

struct norm { // out = x / rms(x) * (weight + offset), over pieces of `width` numbers; weight 0: none
    const REAL *weight;
    int64_t width;
    float eps, offset;
};

struct layer {
    struct norm before_attention, after_attention, before_mlp, after_mlp, query_norm, key_norm;
    struct linear queries_keys_values[3], out, gate_up[2], down; // without outputs: none
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

struct reading { // query heads [from, from + heads), which share a key head, of all rows
    const REAL *qkv;
    REAL *mixed;
    const struct layer *layer;
    const struct shape *shape;
    const struct rows *rows;
    int64_t from, heads;
};

struct page {
    const REAL *keys, *values;
};

static struct page page_of(const struct reading *reading, const REAL *keys, const REAL *values, int64_t number,
                           int64_t capacity) {
    int64_t size = reading->shape->size, kv_heads = reading->shape->kv_heads;
    int64_t head = reading->from / (reading->shape->heads / kv_heads), start = (number * kv_heads + head) * capacity;
    return (struct page){keys + start * key_numbers(size), values + start * value_numbers(size)};
}

static struct page prompt_page(const struct reading *reading, int64_t row) {
    const struct layer *layer = reading->layer;
    return page_of(reading, layer->prompt_keys, layer->prompt_values, reading->rows->prompts[row],
                   reading->shape->prompt_capacity);
}

static struct page own_page(const struct reading *reading, int64_t row) {
    const struct layer *layer = reading->layer;
    return page_of(reading, layer->own_keys, layer->own_values, reading->rows->slots[row], reading->shape->own_capacity);
}

// The first position that a row sees.
static int64_t first_seen(const struct reading *reading, int64_t row) {
    int64_t length = reading->rows->prompt_lengths[row] + reading->rows->written[row] + 1, window = reading->layer->window;
    return window > 0 && length > window ? length - window : 0;
}

// The heads of a row as queries from number `query` on.
static void begin_row(const struct reading *reading, struct attention *own, int64_t row, int64_t query) {
    const struct shape *shape = reading->shape;
    int64_t width = (shape->heads + 2 * shape->kv_heads) * shape->size;
    for (int64_t head = 0; head < reading->heads; head++, query++) {
        begin_query(own, query, reading->qkv + row * width + (reading->from + head) * shape->size, shape->size);
        own->begin[query] = first_seen(reading, row);
    }
}

// The prompt of rows [first, last) with the queries of all of them in one tile.
static void read_prompt(const struct reading *reading, struct attention *shared, int64_t first, int64_t last) {
    struct page page = prompt_page(reading, first);
    shared->both = 0;
    begin_averages(shared, reading->shape->size);
    for (int64_t row = first; row < last; row++) begin_row(reading, shared, row, (row - first) * reading->heads);
    tile_absorb(shared, (last - first) * reading->heads, page.keys, page.values, reading->rows->prompt_lengths[first],
                reading->shape->size, reading->layer->scale, own_page(reading, first).keys);
}

// A row's prompt, unless the row stands in `shared` as queries from number `query` on, and what it has written.
static void read_row(const struct reading *reading, struct attention *own, const struct attention *shared, int64_t row,
                     int64_t query) {
    const struct shape *shape = reading->shape;
    struct page prompt = prompt_page(reading, row), page = own_page(reading, row);
    int64_t size = shape->size, heads = reading->heads, before = reading->rows->prompt_lengths[row];
    float scale = reading->layer->scale;
    own->both = 1;
    begin_averages(own, size);
    begin_row(reading, own, row, 0);
    for (int64_t head = 0; shared && head < heads; head++) take_over(own, head, shared, query + head, size);
    if (!shared) tile_absorb(own, heads, prompt.keys, prompt.values, before, size, scale, page.keys);
    for (int64_t head = 0; head < heads; head++) own->begin[head] = own->begin[head] > before ? own->begin[head] - before : 0;
    tile_absorb(own, heads, page.keys, page.values, reading->rows->written[row] + 1, size, scale,
                page.keys + shape->own_capacity * key_numbers(size));
    for (int64_t head = 0; head < heads; head++)
        write_average(own, head, size, reading->mixed + (row * shape->heads + reading->from + head) * size);
}

// By all threads. All rows are stored before any is read: a load from a line that still waits for its store would wait
// too. `readers` are two of a thread's own, which began as zeros.
static void attention(REAL *qkv, REAL *mixed, const struct layer *layer, const struct shape *shape,
                      const struct rows *rows, struct attention *readers) {
    int64_t width = (shape->heads + 2 * shape->kv_heads) * shape->size, group = shape->heads / shape->kv_heads;
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    int64_t most = EDGE / (group < HEADS ? group : HEADS), end = rows->count * (me + 1) / all, last;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows->count; row++) store_row(qkv + row * width, layer, shape, rows, row);
    for (int64_t first = rows->count * me / all; first < end; first = last) {
        for (last = first + 1; last < end && last - first < most; last++)
            if (rows->prompts[last] != rows->prompts[first]) break;
        for (int64_t from = 0, heads; from < shape->heads; from += heads) {
            int64_t left = group - from % group;
            heads = left < HEADS ? left : HEADS;
            struct reading reading = {qkv, mixed, layer, shape, rows, from, heads};
            int together = last - first > 1 && rows->prompt_lengths[first] >= TOGETHER_FROM;
            if (together) read_prompt(&reading, readers, first, last);
            for (int64_t row = first; row < last; row++)
                read_row(&reading, readers + 1, together ? readers : 0, row, (row - first) * heads);
        }
    }
#pragma omp barrier
}

// Into the place of the gates: of every row what this thread has just multiplied, which lies in its cache.
static void open_gates(REAL *gate_up, const struct linear *linear, int64_t rows, int64_t gelu) {
    int64_t width = linear->outputs, first = first_panel(linear, omp_get_thread_num()) * EDGE;
    int64_t end = first_panel(linear, omp_get_thread_num() + 1) * EDGE;
    end = end < width ? end : width;
    for (REAL *gate = gate_up + first; rows && first < end; rows--, gate += 2 * width)
        gate_row_bfloat16(gate, gate + width, gate, end - first, gelu);
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
        struct attention readers[2] = {0};
        tiles_begin();
        for (int64_t i = 0; i < shape->layers; i++) {
            const struct layer *layer = layers + i;
            struct product open = {layer->queries_keys_values, 3, hidden}, out = {&layer->out, 1, mixed};
            struct product gate_up = {layer->gate_up, 2, hidden}, down = {&layer->down, 1, inner};
            struct product then = {layer[1].queries_keys_values, 3, hidden};
            enter(stream, i ? delta : 0, after, layer->before_attention, read, count, hidden);
            multiply_tiles(open, out, read, hidden, turned, made, count);
#pragma omp barrier
            attention(made, read, layer, shape, rows, readers);
            multiply_tiles(out, gate_up, read, mixed, turned, delta, count);
#pragma omp barrier
            enter(stream, delta, layer->after_attention, layer->before_mlp, read, count, hidden);
            multiply_tiles(gate_up, down, read, hidden, turned, made, count);
            open_gates(made, layer->gate_up, count, shape->gelu);
#pragma omp barrier
            multiply_tiles(down, i + 1 < shape->layers ? then : head, made, 2 * inner, turned, delta, count);
#pragma omp barrier
            after = layer->after_mlp;
        }
        enter(stream, shape->layers ? delta : 0, after, shape->last_norm, read, count, hidden);
        multiply_tiles(head, head, read, hidden, turned, logits, count);
        _tile_release();
    }
    free(room);
}
#endif
