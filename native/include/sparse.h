// Products with a sparse matrix in CSR form, for aggregation and its gradients.
//
// All throw std::invalid_argument on a structure that is no CSR matrix of the given shape. Results do not
// depend on the number of threads: a row is summed by one thread, in the order of its edges.
#pragma once

#include <cstdint>

#include "csr.h"

namespace gnnscale {

// The first entries of a diagonal that is added to the matrix.
template <class Real>
struct Diagonal {
    const Real* values;
    int64_t size;  // at most the number of rows, and of columns
};

// out[v] = diagonal[v] x[v] + Σ_e weight[e] x[indices[e]] over the edges e of row v; a null weight stands for
// ones. x is (num_cols, width), out is (num_rows, width).
template <class Real, class Index>
void spmm(const Csr<Index>& matrix, const Real* weight, Diagonal<Real> diagonal, const Real* x, int64_t width,
          Real* out, int num_threads);

// out[e] = <rows[v], cols[indices[e]]> for each edge e of row v: the gradient of spmm with respect to weight.
// rows is (num_rows, width), cols is (num_cols, width), out is (num_edges,).
template <class Real, class Index>
void sddmm(const Csr<Index>& matrix, const Real* rows, const Real* cols, int64_t width, Real* out,
           int num_threads);

// The transpose, by a stable counting sort: edge e of the transpose is edge permutation[e] of the matrix.
template <class Index>
void transpose_csr(const Csr<Index>& matrix, int64_t* indptr, Index* indices, int64_t* permutation);

}  // namespace gnnscale
