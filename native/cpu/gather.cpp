#include "gather.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "parallel.h"
#include "prefetch.h"
#include "stream.h"

namespace gnnscale {
namespace {

constexpr int64_t kBytesPerThread = 4 << 20;

template <class Index>
int64_t checked(const Index* index, int64_t i, int64_t num_rows) {
    const int64_t row = index[i];
    if (row < 0 || row >= num_rows)
        throw std::out_of_range("index[" + std::to_string(i) + "] is " + std::to_string(row) + "; source has " +
                                std::to_string(num_rows) + " rows.");
    return row;
}

// `Bytes` is the row's length where it is a scalar's, so that the copy is one move; 0 for any other length.
template <int64_t Bytes, class Index>
void copy_rows(const std::byte* source, int64_t num_rows, int64_t row_bytes, const Index* index,
               int64_t begin, int64_t end, std::byte* out) {
    const int64_t bytes = Bytes ? Bytes : row_bytes;
    const int64_t ahead = rows_ahead(bytes);
    for (int64_t i = begin; i < end; ++i) {
        if (i + ahead < end) prefetch(source + static_cast<int64_t>(index[i + ahead]) * bytes, bytes);
        std::memcpy(out + i * bytes, source + checked(index, i, num_rows) * bytes, bytes);
    }
}

// Into memory larger than the caches. For each line that is written one of a later row is asked for, so that there
// are as many under way at any time; and still earlier each row's first, whose page the processor has to find.
template <class Index>
void stream_rows(const std::byte* source, int64_t num_rows, int64_t bytes, const Index* index, int64_t begin,
                 int64_t end, std::byte* out) {
    const int64_t ahead = 2 * rows_ahead(bytes);
    for (int64_t i = begin; i < end; ++i) {
        const auto later = [&](int64_t rows) { return source + index[std::min(i + rows, end - 1)] * bytes; };
        const std::byte *from = source + checked(index, i, num_rows) * bytes, *next = later(ahead);
        __builtin_prefetch(later(3 * ahead), 0, 2);
        for (int64_t b = 0; b < bytes; b += kLine) {
            __builtin_prefetch(next + b, 0, 2);
            stream(from + b, std::min(kLine, bytes - b), out + i * bytes + b);
        }
    }
    stream_end();
}

}  // namespace

template <class Index>
void gather_rows(const std::byte* source, int64_t num_rows, int64_t row_bytes, const Index* index,
                 int64_t count, std::byte* out, int num_threads) {
    const int parts = parts_for(count * std::max(row_bytes, kLine), kBytesPerThread, num_threads);
    const bool streaming = count * row_bytes > kCached && row_bytes >= kLine && row_bytes % kStreamed == 0 &&
                           reinterpret_cast<uintptr_t>(out) % kStreamed == 0;
    run_ranges(count, parts, [&](int64_t begin, int64_t end) {
        const auto copy = streaming        ? stream_rows<Index>
                          : row_bytes == 1   ? copy_rows<1, Index>
                          : row_bytes == 4 ? copy_rows<4, Index>
                          : row_bytes == 8 ? copy_rows<8, Index>
                                           : copy_rows<0, Index>;
        copy(source, num_rows, row_bytes, index, begin, end, out);
    });
}

template void gather_rows(const std::byte*, int64_t, int64_t, const int32_t*, int64_t, std::byte*, int);
template void gather_rows(const std::byte*, int64_t, int64_t, const int64_t*, int64_t, std::byte*, int);

}  // namespace gnnscale
