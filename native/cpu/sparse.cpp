#include "sparse.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "multiversion.h"

#define INLINE inline __attribute__((always_inline))

namespace gnnscale {
namespace {

constexpr int64_t kBytesAhead = 4096;

// Into the second-level cache: rows asked for ahead would push each other out of the first.
template <class Real>
INLINE void prefetch_row(const Real* row, int64_t width) {
    constexpr int64_t line = 64 / sizeof(Real);
    for (int64_t c = 0; c < width; c += line) __builtin_prefetch(row + c, 0, 2);
}

// The edges of one row, and one head of the dense rows that they read.
template <class In, class Out>
struct Row {
    using Real = Sum<In>;
    const int32_t* indices;
    int64_t first, stop, last;  // the row's edges, and the last that may be asked for ahead
    const Real* weights;        // those of this head, or null
    const int64_t* order;       // or null
    int64_t heads;
    Real own;
    const In* own_row;  // or null
    const In* x;
    int64_t stride, width;  // of the dense rows, and of the head
    Out* out;
    const Out* local;
    Real* dots;

    int64_t place(int64_t e) const { return (order ? order[e] : e) * heads; }
};

// From column `begin` on, in tiles of a fixed width, whose sums stay in registers. What is left takes narrower
// ones; or one more tile, moved back over columns already done, if it is more than a half and nothing is
// counted twice. The sums start from `own` times the row at `own_row`.
template <int64_t Tile, bool Sums, bool HasDots, class In, class Out>
INLINE void row_tiles(const Row<In, Out>& row, int64_t begin) {
    using Real = Sum<In>;
    const int64_t width = row.width;
    const int64_t bytes = std::max<int64_t>(std::min(width, Tile) * sizeof(In), 1);
    const int64_t ahead = std::clamp<int64_t>(kBytesAhead / bytes, 4, 32);
    for (; begin < width; begin += Tile) {
        if (begin + Tile > width) {
            if (HasDots || width < Tile || 2 * (width - begin) <= Tile) break;
            begin = width - Tile;
        }
        Real sum[Tile] = {}, local[Tile];
        if (Sums && row.own_row)
            for (int64_t c = 0; c < Tile; ++c) sum[c] = row.own * widen(row.own_row[begin + c]);
        if (HasDots)
            for (int64_t c = 0; c < Tile; ++c) local[c] = widen(row.local[begin + c]);
        for (int64_t e = row.first; e < row.stop; ++e) {
            const int64_t next = std::min(e + ahead, row.last);
            prefetch_row(row.x + row.indices[next] * row.stride + begin, Tile);
            // The weights of a transpose lie anywhere.
            if (Sums && row.weights && row.order) __builtin_prefetch(row.weights + row.place(next), 0, 2);
            if (HasDots && row.order) __builtin_prefetch(row.dots + row.place(next), 1, 2);
            const In* values = row.x + row.indices[e] * row.stride + begin;
            const Real factor = Sums && row.weights ? row.weights[row.place(e)] : Real(1);
            Real dot = 0;
            if constexpr (Sums)
                for (int64_t c = 0; c < Tile; ++c) sum[c] += factor * widen(values[c]);
            if constexpr (HasDots) {
#pragma omp simd reduction(+ : dot)
                for (int64_t c = 0; c < Tile; ++c) dot += local[c] * widen(values[c]);
                Real& total = row.dots[row.place(e)];
                total = begin == 0 ? dot : total + dot;
            }
        }
        if constexpr (Sums)
            for (int64_t c = 0; c < Tile; ++c) narrow(sum[c], row.out[begin + c]);
    }
    if constexpr (Tile > 1) row_tiles<(Tile > 16 || Tile <= 4 ? Tile / 2 : 4), Sums, HasDots>(row, begin);
}

template <class In, class Out>
struct Task {
    const Csr<>& matrix;
    Weights<Sum<In>> weights;
    Diagonal<Sum<In>> diagonal;
    const In* x;
    int64_t width;
    Out* out;
    Dots<Out, Sum<In>> dots;
};

template <bool Sums, bool HasDots, class In, class Out>
INLINE void all_rows(const Task<In, Out>& task, int64_t begin, int64_t end) {
    const int64_t* indptr = task.matrix.indptr;
    const int64_t heads = task.weights.heads, head_width = task.width / heads;
    for (int64_t v = begin; v < end; ++v) {
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t column = h * head_width;
            const bool has_own = v < task.diagonal.size;
            const Row<In, Out> row = {
                task.matrix.indices,
                indptr[v],
                indptr[v + 1],
                indptr[end] - 1,
                task.weights.values ? task.weights.values + h : nullptr,
                task.weights.order,
                heads,
                has_own ? task.diagonal.values[v * heads + h] : Sum<In>(0),
                has_own ? task.x + v * task.width + column : nullptr,
                task.x + column,
                task.width,
                head_width,
                Sums ? task.out + v * task.width + column : nullptr,
                HasDots ? task.dots.rows + v * task.width + column : nullptr,
                HasDots ? task.dots.values + h : nullptr,
            };
            row_tiles<64, Sums, HasDots>(row, 0);
        }
    }
}

// Multiversioning wants plain functions, hence these overloads.
#define KERNEL(In, Out)                                                                  \
    MULTIVERSION void kernel(const Task<In, Out>& task, int64_t begin, int64_t end) {    \
        if (!task.dots.values) return all_rows<true, false>(task, begin, end);           \
        if (!task.out) return all_rows<false, true>(task, begin, end);                   \
        all_rows<true, true>(task, begin, end);                                          \
    }
KERNEL(float, float)
KERNEL(double, double)
KERNEL(BFloat16, BFloat16)
KERNEL(BFloat16, float)
KERNEL(float, BFloat16)
#undef KERNEL

}  // namespace

template <class In, class Out>
void spmm(const Csr<>& matrix, Weights<Sum<In>> weights, Diagonal<Sum<In>> diagonal, const In* x, int64_t width,
          Out* out, Dots<Out, Sum<In>> dots, int num_threads) {
    if (diagonal.size > std::min(matrix.num_rows, matrix.num_cols))
        throw std::invalid_argument("diagonal has " + std::to_string(diagonal.size) +
                                    " entries; the matrix is " + std::to_string(matrix.num_rows) + " by " +
                                    std::to_string(matrix.num_cols) + ".");
    if (dots.values && width == 0) std::fill_n(dots.values, matrix.num_edges * weights.heads, 0);
    const int64_t* order = weights.order;
    const Task<In, Out> task = {matrix, weights, diagonal, x, width, out, dots};
    run_checked(matrix, width, num_threads, [&](int64_t begin, int64_t end) {
        if (order && !std::all_of(order + matrix.indptr[begin], order + matrix.indptr[end],
                                  [&](int64_t e) { return e >= 0 && e < matrix.num_edges; }))
            throw std::invalid_argument("transposed holds edges that the matrix does not have.");
        kernel(task, begin, end);
    });
}

template <class Index>
void transpose_csr(const Csr<Index>& matrix, int64_t* indptr, Index* indices, int64_t* permutation) {
    check_indptr(matrix.indptr, matrix.num_rows, matrix.num_edges);
    check_columns(matrix, 0, matrix.num_edges);
    std::fill_n(indptr, matrix.num_cols + 1, 0);
    for (int64_t e = 0; e < matrix.num_edges; ++e) ++indptr[matrix.indices[e] + 1];
    std::partial_sum(indptr, indptr + matrix.num_cols + 1, indptr);
    // indptr[c] is where the next edge of c goes, so at the end it is the start of c + 1: shifted back below.
    for (int64_t v = 0; v < matrix.num_rows; ++v) {
        for (int64_t e = matrix.indptr[v]; e < matrix.indptr[v + 1]; ++e) {
            const int64_t place = indptr[matrix.indices[e]]++;
            indices[place] = static_cast<Index>(v);
            permutation[place] = e;
        }
    }
    std::copy_backward(indptr, indptr + matrix.num_cols, indptr + matrix.num_cols + 1);
    indptr[0] = 0;
}

#define INSTANTIATE(In, Out)                                                                                   \
    template void spmm(const Csr<>&, Weights<Sum<In>>, Diagonal<Sum<In>>, const In*, int64_t, Out*,            \
                       Dots<Out, Sum<In>>, int);
INSTANTIATE(float, float)
INSTANTIATE(double, double)
INSTANTIATE(BFloat16, BFloat16)
INSTANTIATE(BFloat16, float)
INSTANTIATE(float, BFloat16)
template void transpose_csr(const Csr<int32_t>&, int64_t*, int32_t*, int64_t*);
template void transpose_csr(const Csr<int64_t>&, int64_t*, int64_t*, int64_t*);

}  // namespace gnnscale
