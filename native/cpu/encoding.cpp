#include "encoding.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "copy.h"
#include "multiversion.h"

namespace gnnscale {
namespace {

constexpr int32_t kLargest = 127;  // of int8, on both sides of zero
constexpr uint32_t kSign = 0x80000000, kInfinite = 0x7F800000;

template <class To, class From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

// Both conversions of float16 are M. Dukhan's (github.com/Maratyszcza/FP16), as in torch: without branches
// and without instructions for float16, so that any vector width will do.
MULTIVERSION void to_float16(const float* __restrict in, int64_t count, uint16_t* __restrict out) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word = bits<uint32_t>(in[i]);
        const uint32_t twice = word + word;
        const float base = bits<float>(word & ~kSign) * 0x1p+112f * 0x1p-110f;  // too large: now infinite
        const uint32_t bias = std::max<uint32_t>(twice & 0xFF000000, 0x71000000);
        const uint32_t rounded = bits<uint32_t>(bits<float>((bias >> 1) + 0x07800000) + base);
        const uint32_t number = ((rounded >> 13) & 0x7C00) + (rounded & 0x0FFF);
        // A choice by masks: a branch would keep the compiler from using vectors.
        const uint32_t nan = -static_cast<uint32_t>(twice > 0xFF000000);
        out[i] = static_cast<uint16_t>((word & kSign) >> 16 | (nan & 0x7E00) | (~nan & number));
    }
}

MULTIVERSION void from_float16(const uint16_t* __restrict in, int64_t count, float* __restrict out) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word = static_cast<uint32_t>(in[i]) << 16;
        const uint32_t twice = word + word;
        const float normal = bits<float>((twice >> 4) + 0x70000000) * 0x1p-112f;
        const float subnormal = bits<float>((twice >> 17) | 0x3F000000) - 0.5f;
        out[i] = bits<float>((word & kSign) | bits<uint32_t>(twice < 0x08000000 ? subnormal : normal));
    }
}

MULTIVERSION void to_bfloat16(const float* __restrict in, int64_t count, uint16_t* __restrict out) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word = bits<uint32_t>(in[i]);
        const uint32_t rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
        out[i] = static_cast<uint16_t>((word & ~kSign) > kInfinite ? 0x7FC0 : rounded);
    }
}

MULTIVERSION void from_bfloat16(const uint16_t* __restrict in, int64_t count, float* __restrict out) {
    for (int64_t i = 0; i < count; ++i) out[i] = bits<float>(static_cast<uint32_t>(in[i]) << 16);
}

// The largest |x|, as bits: these are ordered as the numbers are, with infinity and NaN above all.
MULTIVERSION uint32_t largest(const float* in, int64_t count) {
    uint32_t high = 0;
    for (int64_t i = 0; i < count; ++i) high = std::max(high, bits<uint32_t>(in[i]) & ~kSign);
    return high;
}

MULTIVERSION void to_int8(const float* __restrict in, int64_t count, float scale, int8_t* __restrict out) {
    constexpr float kRound = 0x1.8p23f;  // after adding it, no bits are left below the point
    for (int64_t i = 0; i < count; ++i) {
        const auto whole = static_cast<int32_t>(in[i] / scale + kRound - kRound);
        // A scale below the normal numbers is so coarse that a quotient may lie beyond 127.
        out[i] = static_cast<int8_t>(std::min(std::max(whole, -kLargest), kLargest));
    }
}

MULTIVERSION void from_int8(const int8_t* __restrict in, int64_t count, float scale, float* __restrict out) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]) * scale;
}

}  // namespace

float row_scale(RowType type, const float* row, int64_t width) {
    if (type != RowType::kInt8) return 1;
    const uint32_t high = largest(row, width);
    return high < kInfinite ? bits<float>(high) / static_cast<float>(kLargest)
                            : std::numeric_limits<float>::quiet_NaN();
}

void encode(RowType type, const float* row, int64_t count, float scale, std::byte* stored) {
    switch (type) {
        case RowType::kFloat32:
            std::memcpy(stored, row, count * sizeof(float));
            break;
        case RowType::kFloat16:
            to_float16(row, count, reinterpret_cast<uint16_t*>(stored));
            break;
        case RowType::kBFloat16:
            to_bfloat16(row, count, reinterpret_cast<uint16_t*>(stored));
            break;
        case RowType::kInt8:
            if (scale > 0)
                to_int8(row, count, scale, reinterpret_cast<int8_t*>(stored));
            else  // 0 or NaN
                std::memset(stored, 0, count);
    }
}

void decode(RowType type, const std::byte* stored, int64_t count, float scale, float* row) {
    switch (type) {
        case RowType::kFloat32:
            copy_row(stored, count * sizeof(float), reinterpret_cast<std::byte*>(row));
            break;
        case RowType::kFloat16:
            from_float16(reinterpret_cast<const uint16_t*>(stored), count, row);
            break;
        case RowType::kBFloat16:
            from_bfloat16(reinterpret_cast<const uint16_t*>(stored), count, row);
            break;
        case RowType::kInt8:
            from_int8(reinterpret_cast<const int8_t*>(stored), count, scale, row);
    }
}

}  // namespace gnnscale
