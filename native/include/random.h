// Counter-based random numbers: a draw is a pure function of its counters, so a result depends neither on
// the number of threads nor on the order of work. gnnscale/ops/random.py has the same functions in torch.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace gnnscale {

// Folds one more counter into a hash: the output function of SplitMix64 (Steele, Lea and Flood 2014) over a
// step of its Weyl sequence.
HOST_DEVICE inline uint64_t fold(uint64_t hash, uint64_t counter) {
    uint64_t z = hash + (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// A multiple of 2^-52 in [0, 1) from a uniform 64-bit word: the fraction of a number in [1, 2), as loops of that are
// vectorised on any processor, and conversions are not.
HOST_DEVICE inline double uniform(uint64_t word) {
    const uint64_t bits = word >> 12 | uint64_t{0x3FF} << 52;
    double number;
    std::memcpy(&number, &bits, sizeof number);
    return number - 1;
}

// An integer in [0, n) from a uniform 64-bit word. Through a double rather than a 128-bit product, because
// torch has no such product; the bias, at most n / 2^52, is far below what could be measured.
HOST_DEVICE inline int64_t bounded(uint64_t word, int64_t n) {
    return static_cast<int64_t>(uniform(word) * static_cast<double>(n));
}

}  // namespace gnnscale
