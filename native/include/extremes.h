// The largest or smallest of the rows that a row's edges lead to, column by column, and its gradient.
//
// Both throw std::invalid_argument on a structure that is no CSR matrix of the given shape. Results do not
// depend on the number of threads. NaN is larger and smaller than anything.
#pragma once

#include <cstdint>

#include "csr.h"

namespace gnnscale {

// out[v, c] = the extreme of x[indices[e], c] over the edges e of row v, 0 where it has none; and ties[v, c] = the
// number of edges that lead to it, where `ties` is not null. x is (num_cols, width), the others (num_rows, width).
template <class Real>
void extremes(const Csr<>& matrix, const Real* x, int64_t width, bool largest, Real* out, Real* ties,
              int num_threads);

// grad[u, c] = Σ_e share[indices[e], c] over those edges e of the transposed matrix's row u for which x[u, c] is
// extreme[indices[e], c]. x and grad are (num_rows, width), the others (num_cols, width).
template <class Real>
void extremes_backward(const Csr<>& transposed, const Real* x, const Real* extreme, const Real* share,
                       int64_t width, Real* grad, int num_threads);

}  // namespace gnnscale
