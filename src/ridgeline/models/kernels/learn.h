// What a training pass does between its matrix products, forward and back; once per number format, as kernels.h.

// out = x / sqrt(mean(x^2) + eps) * (weight + offset), with x = stream + delta (rounded, kept in `sum`) or x = stream
// where delta is 0; scale [rows] is kept for the way back.
void NAME(norm_forward)(const REAL *stream, const REAL *delta, const REAL *weight, REAL *sum, REAL *out, float *scale,
                        int64_t rows, int64_t width, float eps, float offset) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        int64_t place = row * width;
        const REAL *x = stream + place;
        float squares = 0;
        if (delta) {
            REAL *to = sum + place;
            const REAL *add = delta + place;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) to[i] = WRITE(READ(x[i]) + READ(add[i]));
            x = to;
        }
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < width; i++) squares += READ(x[i]) * READ(x[i]);
        float s = scale[row] = 1 / sqrtf(squares / width + eps);
        REAL *to = out + place;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = WRITE(READ(x[i]) * s * (READ(weight[i]) + offset));
    }
}

// d_x = s * (w * d_out - x * s^2 * mean(x * w * d_out)) + d_sum (0: none), the gradient of both stream and delta;
// d_weight [threads, width] gets each thread's share of sum_rows d_out * x * s.
void NAME(norm_backward)(const REAL *x, const REAL *weight, const float *scale, const REAL *d_out, const REAL *d_sum,
                         REAL *d_x, float *d_weight, int64_t rows, int64_t width, int64_t threads, float offset) {
#pragma omp parallel num_threads(threads)
    {
        float *share = d_weight + omp_get_thread_num() * width;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            int64_t place = row * width;
            const REAL *from = x + place, *g = d_out + place;
            REAL *to = d_x + place;
            float s = scale[row], along = 0;
#pragma omp simd reduction(+ : along)
            for (int64_t i = 0; i < width; i++) along += READ(from[i]) * READ(g[i]) * (READ(weight[i]) + offset);
            float back = along * s * s / width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                float value = s * (READ(g[i]) * (READ(weight[i]) + offset) - READ(from[i]) * back);
                share[i] += READ(g[i]) * READ(from[i]) * s;
                to[i] = WRITE(d_sum ? value + READ(d_sum[place + i]) : value);
            }
        }
    }
}

// d_in [rows, 2 width] of out = act(gate) * up; in and out as in `gate`.
void NAME(gate_backward)(const REAL *in, const REAL *d_out, REAL *d_in, int64_t rows, int64_t width, int64_t gelu) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *gate = in + 2 * row * width, *up = gate + width, *d = d_out + row * width;
        REAL *d_gate = d_in + 2 * row * width, *d_up = d_gate + width;
        if (gelu) {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                float g = READ(gate[i]), slope = READ(d[i]);
                float inner = 0.7978845608f * (g + 0.044715f * g * g * g);
                float half = 1 / (1 + exp_(-2 * inner)); // (1 + tanh(inner)) / 2
                float turn = 2 * half * (1 - half) * 0.7978845608f * (1 + 3 * 0.044715f * g * g);
                d_up[i] = WRITE(slope * g * half);
                d_gate[i] = WRITE(slope * READ(up[i]) * (half + g * turn));
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                float g = READ(gate[i]), slope = READ(d[i]), open = 1 / (1 + exp_(-g));
                d_up[i] = WRITE(slope * g * open);
                d_gate[i] = WRITE(slope * READ(up[i]) * open * (1 + g * (1 - open)));
            }
        }
    }
}

// Turns the first `turning` heads of every row by the angles of its position (`back` = -1: back again), copies the rest.
void NAME(turn)(const REAL *in, REAL *out, const float *cosine, const float *sine, int64_t rows, int64_t pieces,
                int64_t turning, int64_t size, int64_t turned, float back) {
    int64_t half = turned / 2;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *c = cosine + row * turned, *s = sine + row * turned;
        const REAL *line = in + row * pieces * size;
        REAL *to = out + row * pieces * size;
        for (int64_t head = 0; head < turning; head++, line += size, to += size) {
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float first = READ(line[i]), second = READ(line[i + half]);
                to[i] = WRITE(first * c[i] - back * second * s[i]);
                to[i + half] = WRITE(second * c[i] + back * first * s[i]);
            }
            if (to != line) memcpy(to + turned, line + turned, (size - turned) * sizeof(REAL));
        }
        if (to != line) memcpy(to, line, (pieces - turning) * size * sizeof(REAL));
    }
}

// Of every row of logits, at temperature 1 / inverse: the largest, log sum_v exp(l_v - largest), the log-prob of ids[row],
// the entropy, and log sum_v p_v^2 (nats; float). A null pointer: not wanted.
void NAME(score_logits)(const REAL *logits, const int64_t *ids, float *log_total, float *logp, float *entropy,
                        float *collision, int64_t rows, int64_t vocabulary, float inverse) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *line = logits + row * vocabulary;
        float best = READ(line[0]);
#pragma omp simd reduction(max : best)
        for (int64_t i = 0; i < vocabulary; i++) best = READ(line[i]) > best ? READ(line[i]) : best;
        double total = 0, weighted = 0, squares = 0;
        for (int64_t start = 0; start < vocabulary; start += SCORE_BLOCK) {
            int64_t end = start + SCORE_BLOCK < vocabulary ? start + SCORE_BLOCK : vocabulary;
            float sum = 0, along = 0, square = 0;
#pragma omp simd reduction(+ : sum, along, square)
            for (int64_t i = start; i < end; i++) {
                float x = (READ(line[i]) - best) * inverse, p = exp_(x);
                sum += p, along += p * x, square += p * p;
            }
            total += sum, weighted += along, squares += square;
        }
        float base = best * inverse + (float)log(total);
        log_total[row] = base;
        logp[row] = READ(line[ids[row]]) * inverse - base;
        if (entropy) entropy[row] = (float)(log(total) - weighted / total);
        if (collision) collision[row] = (float)(log(squares) - 2 * log(total));
    }
}

// The gradient by the logits, in their own place (or in `out`):
// inverse * (d_logp (1[v = id] - p_v) - d_entropy p_v (log p_v + H)); entropy and d_entropy may be null.
void NAME(score_logits_backward)(const REAL *logits, REAL *out, const int64_t *ids, const float *log_total,
                                 const float *entropy, const float *d_logp, const float *d_entropy, int64_t rows,
                                 int64_t vocabulary, float inverse) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const REAL *line = logits + row * vocabulary;
        REAL *to = out + row * vocabulary;
        float base = log_total[row], d = d_logp[row], e = d_entropy ? d_entropy[row] : 0, h = d_entropy ? entropy[row] : 0;
        float chosen = READ(line[ids[row]]) * inverse - base;
#pragma omp simd
        for (int64_t i = 0; i < vocabulary; i++) {
            float log_p = READ(line[i]) * inverse - base;
            to[i] = WRITE(-inverse * exp_(log_p) * (d + e * (log_p + h)));
        }
        to[ids[row]] = WRITE(inverse * (d - exp_(chosen) * (d + e * (chosen + h))));
    }
}

// out[j, i] = in[i, j], in blocks that stay in the cache.
void NAME(across)(const REAL *in, REAL *out, int64_t rows, int64_t columns) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t left = 0; left < columns; left += ACROSS)
        for (int64_t top = 0; top < rows; top += ACROSS) {
            int64_t right = left + ACROSS < columns ? left + ACROSS : columns;
            int64_t bottom = top + ACROSS < rows ? top + ACROSS : rows;
            for (int64_t j = left; j < right; j++)
                for (int64_t i = top; i < bottom; i++) out[j * rows + i] = in[i * columns + j];
        }
}

// sum[j, i] = or += in[i, j] for the columns j of `in`, whose rows are `stride` apart; sum [columns, rows] floats.
void NAME(sum_across)(const REAL *in, float *sum, int64_t rows, int64_t columns, int64_t stride, int64_t add) {
#pragma omp parallel for schedule(static)
    for (int64_t left = 0; left < columns; left += ACROSS)
        for (int64_t top = 0; top < rows; top += ACROSS) {
            int64_t right = left + ACROSS < columns ? left + ACROSS : columns;
            int64_t bottom = top + ACROSS < rows ? top + ACROSS : rows;
            float block[ACROSS][ACROSS];
            for (int64_t i = top; i < bottom; i++)
                for (int64_t j = left; j < right; j++) block[j - left][i - top] = READ(in[i * stride + j]);
            for (int64_t j = left; j < right; j++) {
                float *to = sum + j * rows, *from = block[j - left] - top;
#pragma omp simd
                for (int64_t i = top; i < bottom; i++) to[i] = add ? to[i] + from[i] : from[i];
            }
        }
}
