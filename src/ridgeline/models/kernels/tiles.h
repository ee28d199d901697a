// What the tiles of AMX need everywhere: their registers, sums in them, and numbers turned for them.

#define EDGE 16                  // rows of a tile
#define DEEP 32                  // numbers in a row of a tile
#define TILE (EDGE * DEEP)       // numbers in a tile
#define TALL_TILES 4             // tiles of sums side by side

static inline int64_t tiles_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define TILES
#include <sys/syscall.h>
#include <unistd.h>

// Linux gives a process the registers only when it asks for them.
void NAME(tiles_ready)(int64_t *ready) {
    *ready = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XFEATURE_XTILEDATA */) == 0;
}

static inline __mmask32 first_lanes(int64_t count) {
    return count >= 32 ? 0xFFFFFFFF : count <= 0 ? 0 : ((__mmask32)1 << count) - 1;
}

// [16][16] pairs, across.
static inline void turn_pairs(const __m512i *in, REAL *out) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            a[i + j] = _mm512_shuffle_i32x4(b[i + j], b[i + 4 + j], 0x88);
            a[i + 4 + j] = _mm512_shuffle_i32x4(b[i + j], b[i + 4 + j], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        _mm512_storeu_si512(out + DEEP * j, _mm512_shuffle_i32x4(a[j], a[8 + j], 0x88));
        _mm512_storeu_si512(out + DEEP * (8 + j), _mm512_shuffle_i32x4(a[j], a[8 + j], 0xdd));
    }
}

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// To be said between writing numbers and loading them into tiles: gcc does not know that this reads memory.
#define SETTLE() __asm__ volatile("" ::: "memory")

static void tiles_begin(void) {
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) shapes.row_bytes[i] = 64, shapes.rows[i] = EDGE;
    _tile_loadconfig(&shapes);
}

typedef float tile_sums[TALL_TILES][EDGE][EDGE] __attribute__((aligned(64)));

static inline __attribute__((always_inline)) void begin_sums(int tall) {
    _tile_zero(0);
    if (tall > 1) _tile_zero(1);
    if (tall > 2) _tile_zero(2);
    if (tall > 3) _tile_zero(3);
}

static inline __attribute__((always_inline)) void load_sums(tile_sums *sums, int tall) {
    SETTLE();
    _tile_loadd(0, (*sums)[0], 64);
    if (tall > 1) _tile_loadd(1, (*sums)[1], 64);
    if (tall > 2) _tile_loadd(2, (*sums)[2], 64);
    if (tall > 3) _tile_loadd(3, (*sums)[3], 64);
}

static inline __attribute__((always_inline)) void store_sums(tile_sums *sums, int tall) {
    _tile_stored(0, (*sums)[0], 64);
    if (tall > 1) _tile_stored(1, (*sums)[1], 64);
    if (tall > 2) _tile_stored(2, (*sums)[2], 64);
    if (tall > 3) _tile_stored(3, (*sums)[3], 64);
}
#else
void NAME(tiles_ready)(int64_t *ready) { *ready = 0; }
#endif
