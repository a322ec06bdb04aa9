// A sparse matrix in CSR form, and what checks it.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace gnnscale {

template <class Index = int32_t>
struct Csr {
    const int64_t* indptr;
    const Index* indices;
    int64_t num_rows;
    int64_t num_cols;
    int64_t num_edges;
};

// Both throw std::invalid_argument: on what is no pointer array over num_edges edges, and on a column of the edges
// [first, stop) that is none of num_cols.
void check_indptr(const int64_t* indptr, int64_t num_rows, int64_t num_edges);
template <class Index>
void check_columns(const Csr<Index>& matrix, int64_t first, int64_t stop);

// How many threads are worth their while; `width` is the work an edge costs, in numbers.
template <class Index>
int parts_of(const Csr<Index>& matrix, int64_t width, int num_threads) {
    constexpr int64_t kWorkPerThread = 3 << 20;
    // An edge costs something even where there is little to add.
    return parts_for((matrix.num_edges + matrix.num_rows) * (width + 16), kWorkPerThread, num_threads);
}

// Checks the matrix and runs work(begin, end) over its rows.
template <class Index, class Work>
void run_checked(const Csr<Index>& matrix, int64_t width, int num_threads, const Work& work) {
    check_indptr(matrix.indptr, matrix.num_rows, matrix.num_edges);
    run_rows(matrix.indptr, matrix.num_rows, parts_of(matrix, width, num_threads),
             [&](int64_t begin, int64_t end) {
                 check_columns(matrix, matrix.indptr[begin], matrix.indptr[end]);
                 work(begin, end);
             });
}

}  // namespace gnnscale
