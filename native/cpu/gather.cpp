#include "gather.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "copy.h"
#include "parallel.h"
#include "prefetch.h"

namespace gnnscale {
namespace {

constexpr int64_t kBytesPerThread = 4 << 20;

// `Bytes` is the row's length where it is a scalar's, so that the copy is one move; 0 for any other length.
template <int64_t Bytes, class Index>
void copy_rows(const std::byte* source, int64_t num_rows, int64_t row_bytes, const Index* index,
               int64_t begin, int64_t end, std::byte* out) {
    const int64_t bytes = Bytes ? Bytes : row_bytes;
    const int64_t ahead = rows_ahead(bytes);
    for (int64_t i = begin; i < end; ++i) {
        if (i + ahead < end) prefetch(source + static_cast<int64_t>(index[i + ahead]) * bytes, bytes);
        const int64_t row = index[i];
        if (row < 0 || row >= num_rows)
            throw std::out_of_range("index[" + std::to_string(i) + "] is " + std::to_string(row) +
                                    "; source has " + std::to_string(num_rows) + " rows.");
        if constexpr (Bytes > 0)
            std::memcpy(out + i * bytes, source + row * bytes, bytes);
        else
            copy_row(source + row * bytes, bytes, out + i * bytes);
    }
}

}  // namespace

template <class Index>
void gather_rows(const std::byte* source, int64_t num_rows, int64_t row_bytes, const Index* index,
                 int64_t count, std::byte* out, int num_threads) {
    const int parts = parts_for(count * std::max(row_bytes, kLine), kBytesPerThread, num_threads);
    run_ranges(count, parts, [&](int64_t begin, int64_t end) {
        const auto copy = row_bytes == 1   ? copy_rows<1, Index>
                          : row_bytes == 4 ? copy_rows<4, Index>
                          : row_bytes == 8 ? copy_rows<8, Index>
                                           : copy_rows<0, Index>;
        copy(source, num_rows, row_bytes, index, begin, end, out);
    });
}

template void gather_rows(const std::byte*, int64_t, int64_t, const int32_t*, int64_t, std::byte*, int);
template void gather_rows(const std::byte*, int64_t, int64_t, const int64_t*, int64_t, std::byte*, int);

}  // namespace gnnscale
