// Dropout whose mask is a pure function of (key, element number): it need not be stored for the gradient, and
// does not depend on the number of threads.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit):
// - out[i] = x[i] * (65536 / keep) where element i is kept, else 0. `keep` is in [1, 65536].
// - A word fold(key, w) of 64 bits decides on four elements, by 16 bits each: an element is kept if its bits,
//   as a number, are less than `keep`. So the probability is exactly keep / 65536.
// - Elements come in tiles of 256, which use 64 words. Lane l of a tile, its elements 64 l to 64 l + 63, takes
//   bits 16 l to 16 l + 15 of these words in order: neighbouring elements read neighbouring words, so that the
//   loop has no shuffles.
#pragma once

#include <cstdint>

#include "random.h"

namespace gnnscale {

// The bits that decide on one element.
inline uint64_t dropout_bits(uint64_t key, uint64_t element) {
    return fold(key, (element >> 8) * 64 + (element & 63)) >> 16 * (element >> 6 & 3) & 0xFFFF;
}

void dropout(const float* x, int64_t size, int64_t keep, uint64_t key, float* out, int num_threads);

}  // namespace gnnscale
