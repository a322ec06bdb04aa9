// Rows of a matrix by index, whatever their type: out[i] = source[index[i]].
//
// Rows are `row_bytes` long and contiguous. Throws std::out_of_range on an index outside [0, num_rows); `out`
// may then be partly written.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gnnscale {

template <class Index>
void gather_rows(const std::byte* source, int64_t num_rows, int64_t row_bytes, const Index* index,
                 int64_t count, std::byte* out, int num_threads);

}  // namespace gnnscale
