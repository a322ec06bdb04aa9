// The types of stored rows (encoding.h), number by number, for kernels; native/cpu/encoding.cpp has the same as loops without
// branches, which become vector code.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"
#include "real.h"

namespace gnnscale {

struct Float16 {
    uint16_t bits;
};

template <class To, class From>
HOST_DEVICE inline To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// Both conversions are M. Dukhan's (github.com/Maratyszcza/FP16), as in torch.
HOST_DEVICE inline float widen(Float16 value) {
    const uint32_t word = static_cast<uint32_t>(value.bits) << 16, twice = word + word;
    const float normal = same_bits<float>((twice >> 4) + 0x70000000) * 0x1p-112f;
    const float subnormal = same_bits<float>((twice >> 17) | 0x3F000000) - 0.5f;
    return same_bits<float>((word & 0x80000000) |
                            same_bits<uint32_t>(twice < 0x08000000 ? subnormal : normal));
}

HOST_DEVICE inline void narrow(float value, Float16& out) {
    const uint32_t word = same_bits<uint32_t>(value), twice = word + word;
    const float base = same_bits<float>(word & 0x7FFFFFFF) * 0x1p+112f * 0x1p-110f;  // too large: now infinite
    uint32_t bias = twice & 0xFF000000;
    if (bias < 0x71000000) bias = 0x71000000;
    const uint32_t rounded = same_bits<uint32_t>(same_bits<float>((bias >> 1) + 0x07800000) + base);
    const uint32_t number = ((rounded >> 13) & 0x7C00) + (rounded & 0x0FFF);
    out.bits = static_cast<uint16_t>((word & 0x80000000) >> 16 | (twice > 0xFF000000 ? 0x7E00 : number));
}

// The scale of an int8 row whose largest |x| has these bits: they are ordered as numbers are, NaN above all.
HOST_DEVICE inline float scale_of(uint32_t largest) {
    return largest < 0x7F800000 ? same_bits<float>(largest) / 127.0f : same_bits<float>(0x7FC00000u);
}

HOST_DEVICE inline int8_t quantised(float value, float scale) {
    if (!(scale > 0)) return 0;  // 0 or NaN
    constexpr float kRound = 0x1.8p23f;  // after adding it, no bits are left below the point
    const float whole = value / scale + kRound - kRound;
    // A scale below the normal numbers is so coarse that a quotient may lie beyond 127.
    return static_cast<int8_t>(whole < -127.0f ? -127.0f : whole > 127.0f ? 127.0f : whole);
}

}  // namespace gnnscale
