// Writing past the caches, for memory that is larger than they are: its lines are not read before they are written,
// and what the caches hold stays there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace gnnscale {

// Memory larger than this is not in the caches.
constexpr int64_t kCached = 32 << 20;
constexpr int64_t kStreamed = 16;  // `to` and the number of bytes are multiples of it

inline void stream(const std::byte* from, int64_t bytes, std::byte* to) {
#ifdef __SSE2__
    for (int64_t b = 0; b < bytes; b += kStreamed)
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + b),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + b)));
#else
    std::memcpy(to, from, bytes);
#endif
}

// Before another thread may read what was streamed.
inline void stream_end() {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

}  // namespace gnnscale
