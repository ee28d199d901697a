// What decoding and training do between their matrix products, fused: plain C for the compiler's vectoriser.
//
// Compiled once per machine by build.py and called through ctypes, so nothing of Python or torch is needed here and it
// builds in seconds. plain.py holds the same in torch, for machines without a compiler and as the tests' oracle.

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define MAX_GROUP 32
#define MAX_SIZE 256
#define DRAW_BLOCK 256
#define SCORE_BLOCK 1024
#define QUERIES 32
#define ACROSS 32

// exp to about 2 units in the last place over the normal range, 0 below it; unlike expf it becomes vector code.
static inline float exp_(float x) {
    x = x < -87.3f ? -87.3f : (x > 88.0f ? 88.0f : x);
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; // rounds to the nearest whole number
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;   // ln 2 in two parts (Cephes)
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int32_t i; float f; } scale = {.i = ((int32_t)n + 127) << 23};
    return x <= -87.3f ? 0.0f : p * scale.f;
}

#include "multiply.h"

typedef uint16_t bfloat16;

static inline float read_bfloat16(bfloat16 x) {
    union { uint32_t i; float f; } value = {.i = (uint32_t)x << 16};
    return value.f;
}

static inline bfloat16 write_bfloat16(float x) {
    union { float f; uint32_t i; } value = {.f = x};
    uint32_t rounded = (value.i + 0x7FFF + ((value.i >> 16) & 1)) >> 16; // to the nearest, ties to even
    return (value.i & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : (bfloat16)rounded;
}

// LANES numbers at once; GROUPS x BLOCKS such sums fit the registers.
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t lanes_bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t lanes_bfloat16 __attribute__((vector_size(2 * LANES), aligned(2)));
#if defined(__AVX512F__)
#define GROUPS 4
#define BLOCKS 4
#else
#define GROUPS 2
#define BLOCKS 2
#endif

static inline lanes read_lanes_bfloat16(const bfloat16 *from) {
#if defined(__AVX512F__) // gcc 12 makes four operations of the portable line, and this is the innermost loop
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#endif
    return (lanes)(__builtin_convertvector(*(const lanes_bfloat16 *)from, lanes_bits) << 16);
}

#define REAL bfloat16
#define READ(x) read_bfloat16(x)
#define READ_LANES(from) read_lanes_bfloat16(from)
#define WRITE(x) write_bfloat16(x)
#define NAME(name) name##_bfloat16
#include "kernels.h"
#include "draw.h"
#include "learn.h"
#include "adamw.h"
#include "ragged.h"
#include "tiles.h"
#include "thin.h"
#include "attend_tiles.h"
#include "decode.h"
#include "gradient.h"
#include "broad.h"
#undef REAL
#undef READ
#undef READ_LANES
#undef WRITE
#undef NAME

#define REAL float
#define READ(x) (x)
#define READ_LANES(from) (*(const lanes *)(from))
#define WRITE(x) (x)
#define NAME(name) name##_float32
#include "kernels.h"
#include "draw.h"
#include "learn.h"
#include "ragged.h"
