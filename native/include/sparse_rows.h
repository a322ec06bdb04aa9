// Products with rows of a matrix that is mostly zero, such as word counts of documents, with dropout on the way.
//
// Contract (gnnscale/ops/reference/ computes the same up to the order of sums):
// - The left operand X has one row for each of `rows`: row i is row rows[i] of the CSR matrix, without a copy;
//   null stands for all rows in order. Columns in a row are distinct.
// - Dropout is that of dropout.h on the dense form of X, whose element (i, c) has the number i * num_cols + c:
//   same key, same mask. `keep` = 65536 drops nothing.
// - Results do not depend on the number of threads.
// - std::out_of_range for a row or a column that does not exist, std::invalid_argument for pointers that are none.
#pragma once

#include <cstdint>

namespace gnnscale {

struct SparseRows {
    const int64_t* indptr;   // matrix_rows + 1
    const int32_t* indices;  // num_entries, columns
    const float* values;     // num_entries
    int64_t matrix_rows, num_cols, num_entries;
    const int64_t* rows;  // num_rows, or null
    int64_t num_rows;
    int64_t keep;
    uint64_t key;
};

// out = X dense: dense is (num_cols, width), out is (num_rows, width).
void multiply_rows(const SparseRows& x, const float* dense, int64_t width, float* out, int num_threads);

// out = X^T dense, the gradient of the product: dense is (num_rows, width), out is (num_cols, width).
void multiply_rows_transposed(const SparseRows& x, const float* dense, int64_t width, float* out,
                              int num_threads);

}  // namespace gnnscale
