// The operations of a GPU. All work on the device's memory in the order of the caller's stream and never wait for it; so
// nothing is known here of what the arrays hold, and a structure that is no CSR matrix reads and writes anywhere.
// native/include/ has the contracts; sums may be rounded in another order, which does not depend on the run.
#pragma once

#include <cstdint>
#include <type_traits>

#include "real.h"
#include "rows.h"

namespace gnnscale::gpu {

struct Matrix {
    Pointers rows;
    Integers indices;
};

// See sparse.h; `order` holds 64-bit numbers of edges, or is null.
template <class In, class Out>
void spmm(const Matrix& matrix, const float* weights, const int64_t* order, const float* diagonal,
          int64_t diagonal_size, const In* x, int64_t width, Out* out, Allocator& memory, Stream stream);

// See sparse.h: dots[order[e]] = <rows[v], x[indices[e]]> for each edge e of row v.
template <class In, class Local>
void edge_dots(const Matrix& matrix, const int64_t* order, const In* x, const Local* rows, int64_t width, float* dots,
               Stream stream);

// See extremes.h. In bfloat16 no count above 256 would be exact, so ties and shares are float32 whatever the rows are.
template <class Real>
void extremes(const Matrix& matrix, const Real* x, int64_t width, bool largest, Real* out, float* ties,
              Allocator& memory, Stream stream);
template <class Real>
void extremes_backward(const Matrix& transposed, const Real* x, const Real* extreme, const float* share,
                       int64_t width, Real* grad, Allocator& memory, Stream stream);

// See attention.h for the members; whatever the rows are, scores and sums of weights are float32.
template <class Real>
struct Attention {
    Matrix matrix;
    int64_t heads, columns;
    int64_t num_own;  // rows that have an own edge
    float slope;
    const Real* x;
    const float *source, *target, *scores, *log_multiplicity, *mask;
};
template <class Real>
struct Attended {
    Real* out;
    float *log_sum, *share;
    Real* positive;
};
template <class Real>
void attend(const Attention<Real>& attention, const Attended<Real>& result, Allocator& memory, Stream stream);

// The gradients in x, source and scores; `along` is <grad, out>, (num_rows, heads), and `attention` has the transposed
// matrix, whose rows are the sources; `num_edges` is that of both.
template <class Real>
struct AttentionBackward {
    Attention<Real> attention;
    const int64_t* permutation;
    const float *log_sum, *along;
    const Real* grad;
    Real* of_x;
    float *of_source, *of_scores;
};
template <class Real>
void attend_backward(const AttentionBackward<Real>& backward, Allocator& memory, Stream stream);

}  // namespace gnnscale::gpu
