// Small float products for attention: C[m, n] = A B, or C += A B. A is read by two strides, so that a transposed one
// costs nothing; rows of B and C are contiguous, n is a multiple of WIDE.

#if defined(__AVX512F__)
#define WIDE 16
#else
#define WIDE 8
#endif
#define TALL 6

typedef float wide __attribute__((vector_size(4 * WIDE), aligned(4)));

// `rows` x `across` vectors of C stay in registers while k is walked; both are constants where this is called.
static inline __attribute__((always_inline)) void tile(const float *a, int64_t a_row, int64_t a_col, const float *b,
                                                       int64_t b_row, float *c, int64_t c_row, int64_t k, int rows,
                                                       int across, int add) {
    wide sums[TALL][4];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < across; j++) sums[i][j] = add ? *(wide *)(c + i * c_row + j * WIDE) : (wide){0};
    for (int64_t step = 0; step < k; step++) {
        const float *line = b + step * b_row;
        for (int i = 0; i < rows; i++) {
            float factor = a[i * a_row + step * a_col];
            for (int j = 0; j < across; j++) sums[i][j] += factor * *(const wide *)(line + j * WIDE);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < across; j++) *(wide *)(c + i * c_row + j * WIDE) = sums[i][j];
}

static inline __attribute__((always_inline)) void strip(const float *a, int64_t a_row, int64_t a_col, const float *b,
                                                        int64_t b_row, float *c, int64_t c_row, int64_t m, int64_t k,
                                                        int across, int add) {
    int64_t i = 0;
    for (; i + TALL <= m; i += TALL)
        tile(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, k, TALL, across, add);
    for (; i + 2 <= m; i += 2)
        tile(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, k, 2, across, add);
    if (i < m) tile(a + i * a_row, a_row, a_col, b, b_row, c + i * c_row, c_row, k, 1, across, add);
}

static void multiply(const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t b_row, float *c,
                     int64_t c_row, int64_t m, int64_t n, int64_t k, int add) {
    int64_t j = 0;
#if defined(__AVX512F__) // 6 x 4 sums need 24 registers, of which AVX2 has 16
    for (; j + 4 * WIDE <= n; j += 4 * WIDE) strip(a, a_row, a_col, b + j, b_row, c + j, c_row, m, k, 4, add);
#endif
    for (; j + 2 * WIDE <= n; j += 2 * WIDE) strip(a, a_row, a_col, b + j, b_row, c + j, c_row, m, k, 2, add);
    for (; j + WIDE <= n; j += WIDE) strip(a, a_row, a_col, b + j, b_row, c + j, c_row, m, k, 1, add);
}
