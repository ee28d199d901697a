// One step of AdamW on float masters that lie in two parts, as training/split_master.py says (bfloat16 only).

static inline float join_master(bfloat16 working, int16_t rest) {
    union { uint32_t i; float f; } value = {.i = ((uint32_t)working << 16) + (uint32_t)(int32_t)rest};
    return value.f;
}

// To the nearest, ties away from zero. Rounding the bits of some NaNs up would make zeros of them.
static inline void split_master(float master, bfloat16 *working, int16_t *rest) {
    union { float f; uint32_t i; } value = {.f = master};
    uint32_t bits = (value.i & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC00000 : value.i;
    *working = (bfloat16)((bits + 0x8000) >> 16);
    *rest = (int16_t)bits;
}

// g = scale * gradient; mean = b1 mean + (1 - b1) g; square = b2 square + (1 - b2) g^2 (moments not yet corrected);
// master = keep * master - rate * mean / (sqrt(square) * inverse_root + eps). Everything is read and written once.
void NAME(adamw)(REAL *working, int16_t *rest, float *mean, float *square, const float *gradient, int64_t count,
                 float scale, float keep, float rate, float beta1, float beta2, float inverse_root, float eps) {
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * scale;
        float m = mean[i] + (1 - beta1) * (g - mean[i]), s = beta2 * square[i] + (1 - beta2) * g * g;
        float value = keep * join_master(working[i], rest[i]) - rate * m / (sqrtf(s) * inverse_root + eps);
        mean[i] = m, square[i] = s;
        split_master(value, working + i, rest + i);
    }
}
