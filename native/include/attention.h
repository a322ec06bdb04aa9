// Attention: the softmax of scores over each row's edges, and the rows of x weighted by it, head by head.
//
// The matrix has a row for each destination v and a column for each source u. With a head's scores e of the edges,
// logarithms l of how many edges each one stands for, and factors m (a mask of dropout):
//   a_e = exp(e_e + l_e) / Σ_e' exp(e_e' + l_e'),   out[v] = Σ_e m_e a_e x[u_e]
// Scores are given (`scores`), or e = LeakyReLU(source[u] + target[v]) (Veličković et al. 2018). With `own_row` (for
// the latter) an edge from v to itself with l = 0 is added to each row, number num_edges + v in the mask. A row
// without edges, or whose edges all stand for none (l = -inf), gets zeros.
//
// Both throw std::invalid_argument on a structure that is no CSR matrix of the given shape. Results do not depend on
// the number of threads: a row is computed by one thread, in the order of its edges.
#pragma once

#include <cstdint>

#include "csr.h"

namespace gnnscale {

template <class Real>
struct Attention {
    Csr<> matrix;
    int64_t heads;
    int64_t columns;  // of one head
    bool own_row;     // needs num_rows <= num_cols
    Real slope;       // of the LeakyReLU, for scores below 0
    const Real* x;                 // (num_cols, heads * columns)
    const Real* source;            // (num_cols, heads), or null
    const Real* target;            // (num_rows, heads), or null
    const Real* scores;            // (num_edges, heads), or null
    const Real* log_multiplicity;  // (num_edges,); null is 0
    const Real* mask;              // (num_edges, or num_edges + num_rows with own_row, heads); null is 1
};

// What the gradient needs beside `out`, each but log_sum for LeakyReLU scores only.
//
// A shift of all scores of a row changes nothing, so `target` has a gradient only because its edges stand on
// both sides of LeakyReLU's kink. With s = Σ a_e and p = Σ m_e a_e x[u_e] over the edges on the upper side alone, it
// is (1 - slope) (<g, p> - s <g, out>): the gradient needs nothing of each edge.
template <class Real>
struct Attended {
    Real* out;       // (num_rows, heads * columns)
    Real* log_sum;   // (num_rows, heads): of the denominator; 0 where that is 0
    Real* share;     // (num_rows, heads): s; null where no gradient is wanted
    Real* positive;  // (num_rows, heads * columns): p; likewise
};

template <class Real>
struct AttentionGradients {
    Real* x;       // (num_cols, heads * columns)
    Real* source;  // (num_cols, heads); null with scores
    Real* target;  // (num_rows, heads); null with scores
    Real* scores;  // (num_edges, heads); null without scores
};

template <class Real>
void attend(const Attention<Real>& attention, const Attended<Real>& result, int num_threads);

// `transposed` and `permutation` are what transpose_csr gives, `grad` is the gradient in `out`. Each row of it is read
// once for each edge, and nothing else of that width.
template <class Real>
void attend_backward(const Attention<Real>& attention, const Csr<>& transposed, const int64_t* permutation,
                     const Attended<const Real>& result, const Real* grad, const AttentionGradients<Real>& gradients,
                     int num_threads);

}  // namespace gnnscale
