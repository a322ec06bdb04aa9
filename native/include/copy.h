// Copies of some hundred bytes to some thousand, such as rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gnnscale {

// As std::memcpy, which does more to find out how to copy than such a copy takes.
void copy_row(const std::byte* from, int64_t bytes, std::byte* to);

}  // namespace gnnscale
