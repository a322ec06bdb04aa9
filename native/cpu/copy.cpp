#include "copy.h"

#include <cstring>

#include "multiversion.h"

namespace gnnscale {

MULTIVERSION void copy_row(const std::byte* __restrict from, int64_t bytes, std::byte* __restrict to) {
    constexpr int64_t kPiece = 64;
    int64_t b = 0;
    for (; b + kPiece <= bytes; b += kPiece) std::memcpy(to + b, from + b, kPiece);
    if (b < bytes) std::memcpy(to + b, from + b, bytes - b);
}

}  // namespace gnnscale
