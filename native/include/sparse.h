// Products with a sparse matrix in CSR form, for aggregation and its gradients.
//
// All throw std::invalid_argument on a structure that is no CSR matrix of the given shape. Results do not
// depend on the number of threads: a row is summed by one thread, in the order of its edges.
#pragma once

#include <cstdint>

#include "csr.h"
#include "real.h"

namespace gnnscale {

// What edge e multiplies a row by: values[order[e]]. Null values stand for ones, a null order for the edges' own.
template <class Real>
struct Weights {
    const Real* values;
    const int64_t* order;
};

// The first entries of a diagonal that is added to the matrix.
template <class Real>
struct Diagonal {
    const Real* values;
    int64_t size;  // at most the number of rows, and of columns
};

// The dot products <rows[v], x[indices[e]]> for each edge e of row v; they are put where the edge's weight stands.
template <class Local, class Real>
struct Dots {
    const Local* rows;  // (num_rows, width)
    Real* values;       // (num_edges,)
};

// out[v] = diagonal[v] x[v] + Σ_e weight[e] x[indices[e]] over the edges e of row v, where `out` is given; and
// `dots`, where its values are given. x is (num_cols, width), out is (num_rows, width).
//
// One call with the transpose of a matrix, the gradient g in the place of x and x in that of dots.rows gives
// both gradients of a product: each row of g is read once for the two.
template <class In, class Out>
void spmm(const Csr<>& matrix, Weights<Sum<In>> weights, Diagonal<Sum<In>> diagonal, const In* x, int64_t width,
          Out* out, Dots<Out, Sum<In>> dots, int num_threads);

// The transpose, by a stable counting sort: edge e of the transpose is edge permutation[e] of the matrix.
template <class Index>
void transpose_csr(const Csr<Index>& matrix, int64_t* indptr, Index* indices, int64_t* permutation);

}  // namespace gnnscale
