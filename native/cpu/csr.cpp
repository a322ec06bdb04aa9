#include "csr.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "multiversion.h"

namespace gnnscale {
namespace {

// The largest of the values read as unsigned numbers, so that a negative one is larger than all others.
#define LARGEST(Index, Unsigned)                                                                     \
    MULTIVERSION Unsigned largest(const Index* values, int64_t count) {                              \
        Unsigned high = 0;                                                                           \
        for (int64_t i = 0; i < count; ++i) high = std::max(high, static_cast<Unsigned>(values[i])); \
        return high;                                                                                 \
    }
LARGEST(int32_t, uint32_t)
LARGEST(int64_t, uint64_t)
#undef LARGEST

}  // namespace

void check_indptr(const int64_t* indptr, int64_t num_rows, int64_t num_edges) {
    if (indptr[0] != 0 || indptr[num_rows] != num_edges || !std::is_sorted(indptr, indptr + num_rows + 1))
        throw std::invalid_argument(
            "indptr is no CSR pointer array: it has to rise from 0 to the length of indices (" +
            std::to_string(num_edges) + ").");
}

template <class Index>
void check_columns(const Csr<Index>& matrix, int64_t first, int64_t stop) {
    if (first == stop ||
        largest(matrix.indices + first, stop - first) < static_cast<uint64_t>(matrix.num_cols))
        return;
    const Index* wrong = std::find_if(matrix.indices + first, matrix.indices + stop,
                                      [&](Index c) { return c < 0 || c >= matrix.num_cols; });
    throw std::invalid_argument("indices holds " + std::to_string(*wrong) + "; the matrix has " +
                                std::to_string(matrix.num_cols) + " columns.");
}

template void check_columns(const Csr<int32_t>&, int64_t, int64_t);
template void check_columns(const Csr<int64_t>&, int64_t, int64_t);

}  // namespace gnnscale
