/* The enclave's passes around a product, each over a few rows while they are in the nearest cache.
 *
 * Bit for bit what enclave/masking computes in numpy and torch (`MaskedEngine._write` and `_read`): tests hold
 * the two together. This is the only C of ours that an enclave may load, and only the library whose SHA-256 is
 * measured (enclave/masking/native.py, docs/decisions/0048-native-kernels.md). So it has no state, allocates
 * nothing, calls nothing but rintf, and has no branch or address that depends on a number of a row.
 *
 * The binding vouches that each plane has `rows` rows of `columns` numbers, `stride` bytes apart. A row of
 * `scratch` holds a row's integers. Memory that the host writes to (`request` and `answer`) is at most written
 * once or read once: what is read goes into scratch, and all that follows begins there.
 */
#include <math.h>
#include <stdint.h>

#ifndef CLONES /* one version of each pass for each kind of CPU, chosen when the library is loaded */
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CLONES __attribute__((target_clones("default", "avx2,fma", "arch=x86-64-v4")))
#else
#define CLONES
#endif
#endif
#define INLINE static inline __attribute__((always_inline))

enum { VERSION = 1, LANES = 8, TOGETHER = 4, CHUNK = 1 << 14, MOST = 1 << 24, LOW_FLIP = 0x8080 };

typedef double Doubles __attribute__((vector_size(8 * LANES), aligned(8)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    uint8_t *at;
    int64_t stride;
} Plane;

typedef struct {
    Plane low, high; /* uint16; int8 or int16 */
} Packed;

/* Numbers that lie one after the other, and how many. */
typedef struct { float *at; int64_t count; } Floats;
typedef struct { int32_t *at; int64_t count; } Words;
typedef struct { int64_t *at; int64_t count; } Longs;
typedef struct { double *at; int64_t count; } Digits; /* vectors of `columns` whole numbers, see integrity.py */

int64_t fedslice_passes(void) { return VERSION; }

/* How many vectors of digits, or 0 where the sizes are not those of a product. */
INLINE int64_t vectors(int64_t rows, int64_t columns, int64_t limbs, Digits digits, Longs sums, Words scratch) {
    if (rows < 0 || rows > MOST || columns <= 0 || columns > MOST || (limbs != 3 && limbs != 4))
        return 0;
    int64_t count = digits.count / columns;
    if (count * columns != digits.count || count % TOGETHER || sums.count != rows * count)
        return 0;
    return scratch.count >= TOGETHER * columns ? count : 0;
}

/* sums[row][digit] = Σ numbers·digits, exact: |number|·|digit|·CHUNK is below 2^53, in whatever order. */
INLINE void against(const int32_t *numbers, int64_t rows, int64_t columns, const double *digits, int64_t count,
                    int64_t *sums) {
    for (int64_t first = 0; first < count; first += TOGETHER) {
        const double *vectors = digits + first * columns;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t k = 0; k < TOGETHER; k++)
                sums[row * count + first + k] = 0;
        for (int64_t start = 0; start < columns; start += CHUNK) {
            int64_t stop = columns - start < CHUNK ? columns : start + CHUNK, i = start;
            Doubles total[TOGETHER][TOGETHER] = {0};
            for (; i + LANES <= stop; i += LANES) { /* unused rows of scratch are summed for nothing */
                Doubles number[TOGETHER];
#pragma GCC unroll 4
                for (int row = 0; row < TOGETHER; row++)
                    number[row] = __builtin_convertvector(
                        *(const Integers *)(numbers + row * columns + i), Doubles);
#pragma GCC unroll 4
                for (int k = 0; k < TOGETHER; k++) {
                    Doubles digit = *(const Doubles *)(vectors + k * columns + i);
#pragma GCC unroll 4
                    for (int row = 0; row < TOGETHER; row++)
                        total[row][k] += number[row] * digit;
                }
            }
            for (int64_t row = 0; row < rows; row++)
                for (int64_t k = 0; k < TOGETHER; k++) {
                    double sum = 0;
                    for (int lane = 0; lane < LANES; lane++)
                        sum += total[row][k][lane];
                    for (int64_t rest = i; rest < stop; rest++)
                        sum += (double)numbers[row * columns + rest] * vectors[k * columns + rest];
                    sums[row * count + first + k] += (int64_t)sum;
                }
        }
    }
}

/* One row of `fixed_point._bounded`, after the multiplication and rounding before it: returns the divisor. */
INLINE float fix(const float *features, float factor, int64_t columns, Longs limits, int32_t *fixed) {
    uint64_t squares = 0;
    int32_t halvings = 0;
    for (int64_t i = 0; i < columns; i++)
        fixed[i] = (int32_t)rintf(features[i] * factor);
    for (int64_t i = 0; i < columns; i++)
        squares += (uint64_t)((int64_t)fixed[i] * fixed[i]);
    for (int64_t level = 0; level < limits.count; level++)
        halvings += (int64_t)squares > limits.at[level];
    float divisor = (float)(INT32_C(1) << halvings), inverse = 1 / divisor;
    for (int64_t i = 0; i < columns; i++)
        fixed[i] = (int32_t)rintf((float)fixed[i] * inverse);
    return divisor;
}

/* `residues.mask` and `residues.unmask`, in both widths. */
#define WIDTH(LIMBS, HIGH, HIGH_FLIP)                                                                         \
    INLINE void mask_##LIMBS(const int32_t *fixed, int64_t columns, const uint16_t *stream_low,               \
                             const HIGH *stream_high, uint16_t *low, HIGH *high) {                            \
        for (int64_t i = 0; i < columns; i++) {                                                               \
            int32_t total = (int32_t)((uint32_t)stream_low[i] + (uint32_t)fixed[i]);                          \
            low[i] = (uint16_t)(total ^ LOW_FLIP);                                                            \
            high[i] = (HIGH)(((total >> 16) + stream_high[i]) ^ HIGH_FLIP);                                   \
        }                                                                                                     \
    }                                                                                                         \
    INLINE void unmask_##LIMBS(const uint16_t *low, const HIGH *high, const uint16_t *pad_low,                \
                               const HIGH *pad_high, int64_t columns, int32_t *exact) {                       \
        for (int64_t i = 0; i < columns; i++) {                                                               \
            uint32_t below = (uint32_t)low[i] - pad_low[i], above = (uint32_t)high[i] - (uint32_t)pad_high[i]; \
            exact[i] = (int32_t)((below + (above << 16)) << (32 - 8 * LIMBS)) >> (32 - 8 * LIMBS);            \
        }                                                                                                     \
    }
WIDTH(3, int8_t, 0)
WIDTH(4, int16_t, 0x80)

/* Rows of features, times 1/scale, become integers with Σq² within the first of the limits, then words in
 * `request`. `claimed` (rows, digits) is q by the digits, `divisor` (rows) what a row was divided by for it. */
CLONES int fedslice_write(int64_t rows, int64_t columns, int64_t limbs, Plane features, Floats factor,
                          Longs limits, Packed stream, Packed request, Digits digits, Longs claimed,
                          Floats divisor, Words scratch) {
    int64_t count = vectors(rows, columns, limbs, digits, claimed, scratch);
    if (!count || factor.count != rows || divisor.count != rows || limits.count < 0 || limits.count > 30)
        return 0;
    for (int64_t first = 0; first < rows; first += TOGETHER) {
        int64_t some = rows - first < TOGETHER ? rows - first : TOGETHER;
        for (int64_t i = 0; i < some; i++) {
            int64_t row = first + i;
            int32_t *fixed = scratch.at + i * columns;
            const void *low = stream.low.at + row * stream.low.stride;
            const void *high = stream.high.at + row * stream.high.stride;
            void *to_low = request.low.at + row * request.low.stride;
            void *to_high = request.high.at + row * request.high.stride;
            divisor.at[row] = fix((const void *)(features.at + row * features.stride), factor.at[row], columns,
                                  limits, fixed);
            if (limbs == 3)
                mask_3(fixed, columns, low, high, to_low, to_high);
            else
                mask_4(fixed, columns, low, high, to_low, to_high);
        }
        against(scratch.at, some, columns, digits.at, count, claimed.at + first * count);
    }
    return 1;
}

/* Rows of `answer` without their pads are exact integers; times scale, and times `channels` where there are
 * any, they are written to `result`, or added to it. `answered` (rows, digits) is y' by the digits. */
CLONES int fedslice_read(int64_t rows, int64_t columns, int64_t limbs, Packed answer, Packed pads,
                         Floats scale, Floats channels, Plane result, int64_t add, Digits digits,
                         Longs answered, Words scratch) {
    int64_t count = vectors(rows, columns, limbs, digits, answered, scratch);
    if (!count || scale.count != rows || (channels.at && channels.count != columns))
        return 0;
    for (int64_t first = 0; first < rows; first += TOGETHER) {
        int64_t some = rows - first < TOGETHER ? rows - first : TOGETHER;
        for (int64_t i = 0; i < some; i++) {
            int64_t row = first + i;
            int32_t *exact = scratch.at + i * columns;
            float *target = (void *)(result.at + row * result.stride), by = scale.at[row];
            const void *low = answer.low.at + row * answer.low.stride;
            const void *high = answer.high.at + row * answer.high.stride;
            const void *pad_low = pads.low.at + row * pads.low.stride;
            const void *pad_high = pads.high.at + row * pads.high.stride;
            if (limbs == 3)
                unmask_3(low, high, pad_low, pad_high, columns, exact);
            else
                unmask_4(low, high, pad_low, pad_high, columns, exact);
            if (channels.at && add)
                for (int64_t k = 0; k < columns; k++)
                    target[k] += (float)exact[k] * by * channels.at[k];
            else if (channels.at)
                for (int64_t k = 0; k < columns; k++)
                    target[k] = (float)exact[k] * by * channels.at[k];
            else if (add)
                for (int64_t k = 0; k < columns; k++)
                    target[k] += (float)exact[k] * by;
            else
                for (int64_t k = 0; k < columns; k++)
                    target[k] = (float)exact[k] * by;
        }
        against(scratch.at, some, columns, digits.at, count, answered.at + first * count);
    }
    return 1;
}
