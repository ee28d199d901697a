// One step of AdamW on float masters, once per number format of the working weights, as kernels.h.

// g = scale * gradient; mean = b1 mean + (1 - b1) g; square = b2 square + (1 - b2) g^2 (moments not yet corrected);
// master = keep * master - rate * mean / (sqrt(square) * inverse_root + eps); working = master, rounded (0: none).
// Everything is read once, and a working weight leaves with the master that it is made of.
void NAME(adamw)(float *master, float *mean, float *square, const float *gradient, REAL *working, int64_t count,
                 float scale, float keep, float rate, float beta1, float beta2, float inverse_root, float eps) {
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * scale;
        float m = mean[i] + (1 - beta1) * (g - mean[i]), s = beta2 * square[i] + (1 - beta2) * g * g;
        float value = keep * master[i] - rate * m / (sqrtf(s) * inverse_root + eps);
        mean[i] = m, square[i] = s, master[i] = value;
        if (working) working[i] = WRITE(value);
    }
}
