// How rows are stored: float32 to a table's type and back. gnnscale/history/encoding.py gives the same bits.
//
// - float16 and bfloat16 round to nearest even; what float16 cannot hold becomes infinite; NaN stays NaN.
// - int8 with a scale s for each row: q = x / s to nearest even, s = max|row| / 127. Where s is 0 (a row of
//   zeros, or of values so small that the division underflows), q = 0. A row with an infinity or a NaN has
//   s = NaN, so that it reads back as NaN and not as numbers. The very largest float32 may read back as
//   infinite, as 127 s is rounded.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gnnscale {

enum class RowType { kFloat32, kFloat16, kBFloat16, kInt8 };

constexpr int64_t item_bytes(RowType type) {
    return type == RowType::kFloat32 ? 4 : type == RowType::kInt8 ? 1 : 2;
}

// The scale of an int8 row; 1 for the other types.
float row_scale(RowType type, const float* row, int64_t width);

// Both work on `count` columns of a row, all of them or some.
void encode(RowType type, const float* row, int64_t count, float scale, std::byte* stored);
void decode(RowType type, const std::byte* stored, int64_t count, float scale, float* row);

}  // namespace gnnscale
