/* An accelerator's product, straight from words: (rows, inner) words of three or four bytes by (outer, inner)
 * int8 weights, modulo 2^24 or 2^32. Bit for bit what enclave/masking/ring.py gives; runs outside every trust
 * boundary, and never in an enclave.
 *
 * A CPU with AVX-512 VNNI multiplies unsigned bytes by signed ones. The signed are the words' digits; weights
 * are packed once, 128 added to each, for 32 outputs and four inputs at a time, and 128·Σ digits of a row is
 * taken off what comes out. Sums of all digits of a few rows stay in registers until they are one residue.
 * The binding (enclave_host/product.py) vouches for sizes; other CPUs are refused by `fedslice_product_runs`.
 */
#include <stdint.h>
#include <string.h>

enum { VERSION = 1, OUTPUTS = 32, DIGITS = 12 }; /* DIGITS of 4 rows of three bytes, or of 3 rows of four */

int64_t fedslice_product(void) { return VERSION; }

int64_t fedslice_product_padded(int64_t inner) { return (inner + 3) / 4 * 4; }

/* Bytes of packed weights. */
int64_t fedslice_product_weights(int64_t outer, int64_t inner) {
    return (outer + OUTPUTS - 1) / OUTPUTS * OUTPUTS * fedslice_product_padded(inner);
}

/* Bytes of scratch: the digits of all rows, and what is taken off each. */
int64_t fedslice_product_scratch(int64_t rows, int64_t inner, int64_t limbs) {
    int64_t tile = DIGITS / limbs, tiles = (rows + tile - 1) / tile;
    return tiles * DIGITS * fedslice_product_padded(inner) + 4 * rows;
}

void fedslice_product_pack(const int8_t *weight, int64_t outer, int64_t inner, uint8_t *packed) {
    int64_t padded = fedslice_product_padded(inner);
    for (int64_t first = 0; first < outer; first += OUTPUTS)
        for (int64_t i = 0; i < padded; i += 4)
            for (int64_t output = first; output < first + OUTPUTS; output++)
                for (int64_t k = i; k < i + 4; k++)
                    *packed++ = output < outer && k < inner ? (uint8_t)(weight[output * inner + k] + 128) : 0;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(PORTABLE)
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) VNNI

int fedslice_product_runs(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

/* A row's digits, by its place in a tile: of each limb four bytes side by side for each four inputs, then those of
 * the next row's. Returns 128·Σ of what its words mean. */
INLINE uint32_t split(const uint16_t *low, const uint8_t *high, int64_t inner, const int limbs, int8_t *digits) {
    __m128i sums[4], bytes[4] = {_mm_setzero_si128()}, ones = _mm_set1_epi8(1);
    sums[0] = sums[1] = sums[2] = sums[3] = _mm_setzero_si128();
    for (int64_t i = 0; i < inner; i += 16) {
        __mmask16 there = inner - i < 16 ? (__mmask16)((1 << (inner - i)) - 1) : 0xffff;
        __m256i below = _mm256_maskz_loadu_epi16(there, low + i), above = _mm256_setzero_si256();
        bytes[0] = _mm256_cvtepi16_epi8(below), bytes[1] = _mm256_cvtepi16_epi8(_mm256_srli_epi16(below, 8));
        if (limbs == 3)
            bytes[2] = _mm_maskz_loadu_epi8(there, high + i);
        else {
            above = _mm256_maskz_loadu_epi16(there, high + 2 * i);
            bytes[2] = _mm256_cvtepi16_epi8(above), bytes[3] = _mm256_cvtepi16_epi8(_mm256_srli_epi16(above, 8));
        }
        for (int limb = 0; limb < limbs; limb++) {
            int8_t *at = digits + 4 * limb + DIGITS * i;
            sums[limb] = _mm_dpbusd_epi32(sums[limb], ones, bytes[limb]);
            _mm_storeu_si32(at, bytes[limb]);
            if (i + 4 < inner)
                _mm_storeu_si32(at + 4 * DIGITS, _mm_srli_si128(bytes[limb], 4));
            if (i + 8 < inner)
                _mm_storeu_si32(at + 8 * DIGITS, _mm_srli_si128(bytes[limb], 8));
            if (i + 12 < inner)
                _mm_storeu_si32(at + 12 * DIGITS, _mm_srli_si128(bytes[limb], 12));
        }
    }
    uint32_t total = 0;
    for (int limb = 0; limb < limbs; limb++) {
        __m128i sum = _mm_hadd_epi32(sums[limb], sums[limb]);
        total += (uint32_t)_mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum)) << (8 * limb);
    }
    return total << 7;
}

/* As _mm512_dpbusd_epi32, for which GCC 12 writes all sums to memory in each turn. */
INLINE void add(__m512i *sum, __m512i weights, __m512i digits) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(weights), "v"(digits));
}

/* A tile of rows by 32 outputs, of which `outputs` are there. */
INLINE void tile(const int8_t *digits, int64_t padded, const uint8_t *weight, const uint32_t *off, int64_t rows,
                 int64_t outputs, const int limbs, uint16_t *low, uint8_t *high, int64_t outer) {
    __m512i sums[DIGITS][2];
#pragma GCC unroll 12
    for (int d = 0; d < DIGITS; d++)
        sums[d][0] = sums[d][1] = _mm512_setzero_si512();
    for (int64_t i = 0; i < padded; i += 4, weight += 4 * OUTPUTS, digits += 4 * DIGITS) {
        __m512i left = _mm512_loadu_si512(weight), right = _mm512_loadu_si512(weight + 64);
#pragma GCC unroll 12
        for (int d = 0; d < DIGITS; d++) {
            __m512i digit = _mm512_broadcastd_epi32(_mm_loadu_si32(digits + 4 * d));
            add(&sums[d][0], left, digit);
            add(&sums[d][1], right, digit);
        }
    }
#pragma GCC unroll 4
    for (int row = 0; row < DIGITS / limbs; row++)
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
            __m512i total = _mm512_sub_epi32(sums[row * limbs][side], _mm512_set1_epi32(row < rows ? (int32_t)off[row] : 0));
#pragma GCC unroll 3
            for (int limb = 1; limb < limbs; limb++)
                total = _mm512_add_epi32(total, _mm512_slli_epi32(sums[row * limbs + limb][side], 8 * limb));
            int64_t left = outputs - 16 * side;
            __mmask16 there = row >= rows || left <= 0 ? 0 : left >= 16 ? 0xffff : (__mmask16)((1 << left) - 1);
            int64_t at = row * outer + 16 * side;
            if (!there)
                continue;
            _mm512_mask_cvtepi32_storeu_epi16(low + at, there, total);
            total = _mm512_srli_epi32(total, 16);
            if (limbs == 3)
                _mm512_mask_cvtepi32_storeu_epi8(high + at, there, total);
            else
                _mm512_mask_cvtepi32_storeu_epi16(high + 2 * at, there, total);
        }
}

VNNI void fedslice_product_multiply(int64_t rows, int64_t outer, int64_t inner, int64_t limbs, const uint16_t *low,
                                    const uint8_t *high, const uint8_t *packed, uint16_t *out_low,
                                    uint8_t *out_high, uint8_t *scratch) {
    int64_t padded = fedslice_product_padded(inner), step = DIGITS / limbs, bytes = limbs - 2;
    int64_t tiles = (rows + step - 1) / step;
    if (rows <= 0 || outer <= 0 || inner <= 0)
        return;
    int8_t *digits = (int8_t *)scratch;
    uint32_t *off = (uint32_t *)(scratch + tiles * DIGITS * padded);
    memset(digits + (tiles - 1) * DIGITS * padded, 0, (size_t)(DIGITS * padded)); /* the last may have fewer rows */
    for (int64_t row = 0; row < rows; row++) {
        int8_t *at = digits + row / step * DIGITS * padded + row % step * limbs * 4;
        if (limbs == 3)
            off[row] = split(low + row * inner, high + row * inner, inner, 3, at);
        else
            off[row] = split(low + row * inner, high + 2 * row * inner, inner, 4, at);
    }
    for (int64_t first = 0; first < outer; first += OUTPUTS, packed += OUTPUTS * padded)
        for (int64_t row = 0; row < rows; row += step) {
            const int8_t *these = digits + row / step * DIGITS * padded;
            uint16_t *to_low = out_low + row * outer + first;
            uint8_t *to_high = out_high + bytes * (row * outer + first);
            if (limbs == 3)
                tile(these, padded, packed, off + row, rows - row, outer - first, 3, to_low, to_high, outer);
            else
                tile(these, padded, packed, off + row, rows - row, outer - first, 4, to_low, to_high, outer);
        }
}
#else
int fedslice_product_runs(void) { return 0; }

void fedslice_product_multiply(int64_t rows, int64_t outer, int64_t inner, int64_t limbs, const uint16_t *low,
                               const uint8_t *high, const uint8_t *packed, uint16_t *out_low,
                               uint8_t *out_high, uint8_t *scratch) {
    (void)rows, (void)outer, (void)inner, (void)limbs, (void)low, (void)high, (void)packed, (void)out_low;
    (void)out_high, (void)scratch;
}
#endif
