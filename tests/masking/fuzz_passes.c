/* Any sizes and any bytes through the passes, in buffers of exactly their size, under the sanitizers.
 * `fuzz_passes ROUNDS SEED` prints what it did; the passes' own answers are compared elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "passes.c"

static uint64_t state;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static int64_t below(int64_t end) { return (int64_t)(next() % (uint64_t)end); }

static void *some(size_t size) {
    uint8_t *bytes = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)next();
    return bytes;
}

/* Rows that end where the buffer does, `gap` bytes apart; the last has no gap. */
static Plane plane(int64_t rows, int64_t width, int64_t gap) {
    int64_t size = rows ? (rows - 1) * (width + gap) + width : 0;
    return (Plane){some((size_t)size), width + gap};
}

static Packed packed(int64_t rows, int64_t columns, int64_t limbs) {
    return (Packed){plane(rows, 2 * columns, 2 * below(9)), plane(rows, (limbs - 2) * columns, 2 * below(9))};
}

static void drop(Packed of) {
    free(of.low.at);
    free(of.high.at);
}

static void floats(float *numbers, int64_t count, float most) { /* of any size up to `most`, with zeros */
    for (int64_t i = 0; i < count; i++)
        numbers[i] = below(9) ? most * ((float)below(2001) - 1000) / 1000 / (float)(1 + below(1000)) : 0;
}

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 1000, written = 0, refused = 0;
    state = count > 2 ? strtoull(arguments[2], 0, 10) : 1;
    for (long round = 0; round < rounds; round++) {
        int64_t rows = below(10), columns = 1 + below(below(20) ? 80 : 40000), limbs = 3 + below(2);
        int64_t vectors = 4 * (1 + below(4)), bad = below(4) == 0 ? 1 + below(6) : 0;
        Plane features = plane(rows, 4 * columns, 4 * below(5)), result = plane(rows, 4 * columns, 0);
        Packed stream = packed(rows, columns, limbs), request = packed(rows, columns, limbs);
        Floats factor = {some(4 * (size_t)rows), rows}, divisor = {some(4 * (size_t)rows), rows};
        Floats channels = {below(2) ? some(4 * (size_t)columns) : 0, columns};
        Longs limits = {some(8 * 20), 20}, sums = {some(8 * (size_t)(rows * vectors)), rows * vectors};
        Digits digits = {some(8 * (size_t)(vectors * columns)), vectors * columns};
        Words scratch = {some(16 * (size_t)columns), 4 * columns};
        int64_t levels = below(21);
        for (int64_t i = 0; i < digits.count; i++)
            digits.at[i] = (double)(below(65536) - 32768);
        for (int64_t row = 0; row < rows; row++)
            floats((void *)(features.at + row * features.stride), columns, 1 << 20);
        floats(factor.at, rows, 1);
        for (int64_t level = 0; level < 20; level++)
            limits.at[level] = below(2) ? (int64_t)1 << (40 + level) : (int64_t)next() >> 1;
        limits.count = levels;
        int64_t r = rows, c = columns, l = limbs;
        switch (bad) { /* what the binding would never say is refused before a byte is touched */
        case 1: r = rows + 1; break;
        case 2: c = columns + 1; break;
        case 3: l = below(2) ? 2 : 5; break;
        case 4: scratch.count--; break;
        case 5: digits.count--; break;
        case 6: sums.count++; break;
        }
        int did = fedslice_write(r, c, l, features, factor, limits, stream, request, digits, sums, divisor, scratch);
        int read = fedslice_read(r, c, l, request, stream, divisor, channels, result, below(2), digits, sums, scratch);
        if (did == !!bad || read == !!bad) {
            fprintf(stderr, "round %ld: %d and %d for fault %ld\n", round, did, read, (long)bad);
            return 1;
        }
        *(bad ? &refused : &written) += 1;
        drop(stream), drop(request), free(features.at), free(result.at), free(factor.at), free(divisor.at);
        free(channels.at), free(limits.at), free(sums.at), free(digits.at), free(scratch.at);
    }
    printf("%ld written, %ld refused\n", written, refused);
    return 0;
}
