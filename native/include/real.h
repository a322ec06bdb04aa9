// The numbers that rows hold. bfloat16 is a place to store float32: no processor here computes with it.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace gnnscale {

// float32 without its lower half.
struct BFloat16 {
    uint16_t bits;
};

template <class Real>
struct Accumulator {
    using type = Real;
};
template <>
struct Accumulator<BFloat16> {
    using type = float;
};

// What numbers of a type are added up in.
template <class Real>
using Sum = typename Accumulator<Real>::type;

// Without branches, so that loops over them become vector code.
HOST_DEVICE inline float widen(float value) { return value; }
HOST_DEVICE inline double widen(double value) { return value; }
HOST_DEVICE inline float widen(BFloat16 value) {
    const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &word, sizeof wide);
    return wide;
}

HOST_DEVICE inline void narrow(float value, float& out) { out = value; }
HOST_DEVICE inline void narrow(double value, double& out) { out = value; }
// To nearest even; NaN stays NaN.
HOST_DEVICE inline void narrow(float value, BFloat16& out) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    const uint32_t rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
    out.bits = static_cast<uint16_t>((word & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : rounded);
}

}  // namespace gnnscale
