// Rows at random places of memory, asked for before they are needed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace gnnscale {

constexpr int64_t kLine = 64;

// How many rows ahead: about as many lines as the processor can have under way, because more would wait for one
// another. Of long rows only the beginning, as the processor then sees the sequence by itself.
inline int64_t rows_ahead(int64_t row_bytes) {
    return std::clamp<int64_t>(4096 / std::max<int64_t>(row_bytes, 1), 4, 16);
}

// Into the second-level cache, which has room for more lines under way than the first. `Write` is 1 for memory that will
// be written. Always inlined, as GCC takes a function that does nothing but
// prefetch for one without effect and drops the calls.
template <int Write = 0>
[[gnu::always_inline]] inline void prefetch(const void* memory, int64_t bytes) {
    const auto* from = static_cast<const std::byte*>(memory);
    for (int64_t b = 0; b < std::min<int64_t>(bytes, 1024); b += kLine)
        __builtin_prefetch(from + b, Write, 2);
}

}  // namespace gnnscale
