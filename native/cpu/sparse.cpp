#include "sparse.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>

#include "buffer.h"
#include "multiversion.h"
#include "pool.h"

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

// Some columns of a product, with everything in the order of the edges.
template <class In, class Out>
struct Columns {
    using Real = Sum<In>;
    const Csr<>& matrix;
    const Real* weights;  // or null
    Diagonal<Real> diagonal;
    const In* x;
    int64_t x_stride, width;
    Out* out;
    const Out* local;  // the rows of dot products
    int64_t stride;    // of `out` and of `local`
    Real* dots;
};

// Row v from column `begin` on, in tiles of a fixed width, whose sums stay in registers. What is left takes
// narrower ones; or one more tile, moved back over columns already done, if it is more than a half and nothing
// is counted twice by that. `last` is the last edge that may be asked for ahead.
template <int64_t Tile, bool Sums, bool HasDots, class In, class Out>
INLINE void row_tiles(const Columns<In, Out>& task, int64_t v, int64_t last, int64_t begin) {
    using Real = Sum<In>;
    const int32_t* indices = task.matrix.indices;
    const int64_t width = task.width, first = task.matrix.indptr[v], stop = task.matrix.indptr[v + 1];
    const int64_t bytes = std::max<int64_t>(std::min(width, Tile) * sizeof(In), 1);
    const int64_t ahead = std::clamp<int64_t>(kBytesAhead / bytes, 4, 32);
    for (; begin < width; begin += Tile) {
        if (begin + Tile > width) {
            if (HasDots || width < Tile || 2 * (width - begin) <= Tile) break;
            begin = width - Tile;
        }
        const In* x = task.x + begin;
        Real sum[Tile] = {}, local[Tile];
        if (Sums && v < task.diagonal.size)
            for (int64_t c = 0; c < Tile; ++c) sum[c] = task.diagonal.values[v] * widen(x[v * task.x_stride + c]);
        if (HasDots)
            for (int64_t c = 0; c < Tile; ++c) local[c] = widen(task.local[v * task.stride + begin + c]);
        for (int64_t e = first; e < stop; ++e) {
            prefetch_row(x + indices[std::min(e + ahead, last)] * task.x_stride, Tile);
            const In* row = x + indices[e] * task.x_stride;
            const Real factor = Sums && task.weights ? task.weights[e] : Real(1);
            if constexpr (Sums)
                for (int64_t c = 0; c < Tile; ++c) sum[c] += factor * widen(row[c]);
            if constexpr (HasDots) {
                Real dot = 0;
#pragma omp simd reduction(+ : dot)
                for (int64_t c = 0; c < Tile; ++c) dot += local[c] * widen(row[c]);
                task.dots[e] = begin > 0 ? task.dots[e] + dot : dot;
            }
        }
        if constexpr (Sums)
            for (int64_t c = 0; c < Tile; ++c) narrow(sum[c], task.out[v * task.stride + begin + c]);
    }
    if constexpr (Tile > 1) row_tiles<(Tile > 16 || Tile <= 4 ? Tile / 2 : 4), Sums, HasDots>(task, v, last, begin);
}

template <bool Sums, bool HasDots, class In, class Out>
INLINE void row_range(const Columns<In, Out>& task, int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v)
        row_tiles<64, Sums, HasDots>(task, v, task.matrix.indptr[end] - 1, 0);
}

// Multiversioning wants plain functions, hence these overloads.
#define KERNEL(In, Out)                                                                  \
    MULTIVERSION void kernel(const Columns<In, Out>& task, int64_t begin, int64_t end) { \
        if (!task.dots) return row_range<true, false>(task, begin, end);                 \
        if (!task.out) return row_range<false, true>(task, begin, end);                  \
        row_range<true, true>(task, begin, end);                                         \
    }
KERNEL(float, float)
KERNEL(double, double)
KERNEL(BFloat16, BFloat16)
KERNEL(BFloat16, float)
KERNEL(float, BFloat16)
#undef KERNEL

// How many columns to do at a time: all of them, unless rows are read again and again from a matrix too large
// for the cache, of which fewer columns do fit. These are copied then, to where they lie side by side: so many
// times that number at once that rows are read in long pieces.
constexpr int64_t kCopiedAtOnce = 8;
template <class Real>
int64_t columns_at_once(const Csr<>& matrix, int64_t width) {
    constexpr int64_t kCache = 26 << 20, kReads = 6, kLine = 64 / sizeof(Real);
    const int64_t fits = kCache / std::max<int64_t>(matrix.num_cols * sizeof(Real), 1) / kLine * kLine;
    return fits < kLine || fits >= width || matrix.num_edges < kReads * matrix.num_cols ? width : fits;
}

void check_order(const int64_t* order, int64_t first, int64_t stop, int64_t num_edges) {
    bool fits = true;
    for (int64_t e = first; e < stop; ++e) fits &= static_cast<uint64_t>(order[e]) < static_cast<uint64_t>(num_edges);
    if (!fits) throw std::invalid_argument("transposed holds edges that the matrix does not have.");
}

}  // namespace

template <class In, class Out>
void spmm(const Csr<>& matrix, Weights<Sum<In>> weights, Diagonal<Sum<In>> diagonal, const In* x, int64_t width,
          Out* out, Dots<Out, Sum<In>> dots, int num_threads) {
    using Real = Sum<In>;
    if (diagonal.size > std::min(matrix.num_rows, matrix.num_cols))
        throw std::invalid_argument("diagonal has " + std::to_string(diagonal.size) +
                                    " entries; the matrix is " + std::to_string(matrix.num_rows) + " by " +
                                    std::to_string(matrix.num_cols) + ".");
    check_indptr(matrix.indptr, matrix.num_rows, matrix.num_edges);

    // What is kept in another order is read into that of the edges, and written back from it.
    const int64_t* order = weights.order;
    Buffer<Real> own_weights(order && weights.values ? matrix.num_edges : 0);
    Buffer<Real> own_dots(order && dots.values ? matrix.num_edges : 0);
    Real* const dots_of_edges = order && dots.values ? own_dots.data() : dots.values;
    if (dots.values && width == 0) std::fill_n(dots_of_edges, matrix.num_edges, Real(0));

    // Dot products of a few columns at a time would have to be read and written as often.
    const int64_t step = dots.values ? width : columns_at_once<In>(matrix, width);
    const int64_t group = std::min(kCopiedAtOnce * step, width);
    std::shared_ptr<std::byte> copied;
    if (step < width) copied = results().take((group + step - 1) / step * step * matrix.num_cols * sizeof(In));
    auto* blocks = reinterpret_cast<In*>(copied.get());
    const int parts = parts_of(matrix, width, num_threads);
    for (int64_t column = 0; column == 0 || column < width; column += std::max<int64_t>(step, 1)) {
        const int64_t columns = std::min(step, width - column);
        Columns<In, Out> task = {matrix,
                                 order && weights.values ? own_weights.data() : weights.values,
                                 diagonal,
                                 x,
                                 width,
                                 columns,
                                 out ? out + column : nullptr,
                                 dots.rows,
                                 width,
                                 dots_of_edges};
        if (copied) {
            if (column % group == 0)
                run_ranges(matrix.num_cols, parts, [&](int64_t begin, int64_t end) {
                    const int64_t stop = std::min(column + group, width);
                    for (int64_t u = begin; u < end; ++u)
                        for (int64_t c = column; c < stop; c += step)
                            std::copy_n(x + u * width + c, std::min(step, stop - c),
                                        blocks + (c - column) * matrix.num_cols + u * step);
                });
            task.x = blocks + column % group * matrix.num_cols;
            task.x_stride = step;
        }
        run_rows(matrix.indptr, matrix.num_rows, parts, [&](int64_t begin, int64_t end) {
            const int64_t first = matrix.indptr[begin], stop = matrix.indptr[end];
            if (column == 0) {
                check_columns(matrix, first, stop);
                if (order) check_order(order, first, stop, matrix.num_edges);
                if (order && weights.values)
                    for (int64_t e = first; e < stop; ++e) own_weights[e] = weights.values[order[e]];
            }
            kernel(task, begin, end);
            if (order && dots.values)
                for (int64_t e = first; e < stop; ++e) dots.values[order[e]] = own_dots[e];
        });
    }
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
