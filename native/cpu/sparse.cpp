#include "sparse.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "multiversion.h"
#include "parallel.h"

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

template <class Real>
INLINE int64_t edges_ahead(int64_t width) {
    return std::clamp<int64_t>(kBytesAhead / (std::max<int64_t>(width, 1) * sizeof(Real)), 4, 32);
}

// One row of the product, from column `begin` on: in tiles of a fixed width, whose sums stay in registers.
// What is left takes one more tile, moved back over columns already done, or narrower ones if it is at most a
// half. The sums start from `own` times the row of x at `own_row`.
template <int64_t Tile, class Real, class Index>
INLINE void spmm_row(const Index* indices, const Real* weight, int64_t first, int64_t stop, int64_t last,
                     Real own, const Real* own_row, const Real* x, int64_t width, Real* out, int64_t begin) {
    const int64_t ahead = edges_ahead<Real>(std::min(width, Tile));
    for (; begin < width; begin += Tile) {
        if (begin + Tile > width) {
            if (width < Tile || 2 * (width - begin) <= Tile) break;
            begin = width - Tile;
        }
        Real sum[Tile] = {};
        if (own_row)
            for (int64_t c = 0; c < Tile; ++c) sum[c] = own * own_row[begin + c];
        for (int64_t e = first; e < stop; ++e) {
            prefetch_row(x + indices[std::min(e + ahead, last)] * width + begin, Tile);
            const Real* row = x + indices[e] * width + begin;
            const Real factor = weight ? weight[e] : Real(1);
            for (int64_t c = 0; c < Tile; ++c) sum[c] += factor * row[c];
        }
        std::copy_n(sum, Tile, out + begin);
    }
    if constexpr (Tile > 1)
        spmm_row<Tile / 2>(indices, weight, first, stop, last, own, own_row, x, width, out, begin);
}

template <class Real, class Index>
INLINE void spmm_rows(const Csr<Index>& matrix, const Real* weight, Diagonal<Real> diagonal, const Real* x,
                      int64_t width, Real* out, int64_t begin, int64_t end) {
    const int64_t* indptr = matrix.indptr;
    for (int64_t v = begin; v < end; ++v) {
        const bool has_own = v < diagonal.size;
        spmm_row<256 / sizeof(Real)>(matrix.indices, weight, indptr[v], indptr[v + 1], indptr[end] - 1,
                                     has_own ? diagonal.values[v] : Real(0),
                                     has_own ? x + v * width : nullptr, x, width, out + v * width, 0);
    }
}

template <class Real, class Index>
INLINE void sddmm_rows(const Csr<Index>& matrix, const Real* rows, const Real* cols, int64_t width, Real* out,
                       int64_t begin, int64_t end) {
    const int64_t ahead = edges_ahead<Real>(width);
    const int64_t last = matrix.indptr[end];
    for (int64_t v = begin; v < end; ++v) {
        const Real* row = rows + v * width;
        for (int64_t e = matrix.indptr[v]; e < matrix.indptr[v + 1]; ++e) {
            if (e + ahead < last) prefetch_row(cols + matrix.indices[e + ahead] * width, width);
            const Real* col = cols + matrix.indices[e] * width;
            Real dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t c = 0; c < width; ++c) dot += row[c] * col[c];
            out[e] = dot;
        }
    }
}

// Multiversioning wants plain functions, hence these overloads.
#define KERNELS(Real, Index)                                                                     \
    MULTIVERSION void spmm_kernel(const Csr<Index>& matrix, const Real* weight,                  \
                                  Diagonal<Real> diagonal, const Real* x, int64_t width,         \
                                  Real* out, int64_t begin, int64_t end) {                       \
        spmm_rows(matrix, weight, diagonal, x, width, out, begin, end);                          \
    }                                                                                            \
    MULTIVERSION void sddmm_kernel(const Csr<Index>& matrix, const Real* rows, const Real* cols, \
                                   int64_t width, Real* out, int64_t begin, int64_t end) {       \
        sddmm_rows(matrix, rows, cols, width, out, begin, end);                                  \
    }
KERNELS(float, int32_t)
KERNELS(float, int64_t)
KERNELS(double, int32_t)
KERNELS(double, int64_t)
#undef KERNELS

}  // namespace

template <class Real, class Index>
void spmm(const Csr<Index>& matrix, const Real* weight, Diagonal<Real> diagonal, const Real* x, int64_t width,
          Real* out, int num_threads) {
    if (diagonal.size > std::min(matrix.num_rows, matrix.num_cols))
        throw std::invalid_argument("diagonal has " + std::to_string(diagonal.size) +
                                    " entries; the matrix is " + std::to_string(matrix.num_rows) + " by " +
                                    std::to_string(matrix.num_cols) + ".");
    run_checked(matrix, width, num_threads, [&](int64_t begin, int64_t end) {
        spmm_kernel(matrix, weight, diagonal, x, width, out, begin, end);
    });
}

template <class Real, class Index>
void sddmm(const Csr<Index>& matrix, const Real* rows, const Real* cols, int64_t width, Real* out,
           int num_threads) {
    run_checked(matrix, width, num_threads, [&](int64_t begin, int64_t end) {
        sddmm_kernel(matrix, rows, cols, width, out, begin, end);
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

#define INSTANTIATE(Real, Index)                                                          \
    template void spmm(const Csr<Index>&, const Real*, Diagonal<Real>, const Real*, int64_t, Real*, int); \
    template void sddmm(const Csr<Index>&, const Real*, const Real*, int64_t, Real*, int);
INSTANTIATE(float, int32_t)
INSTANTIATE(float, int64_t)
INSTANTIATE(double, int32_t)
INSTANTIATE(double, int64_t)
template void transpose_csr(const Csr<int32_t>&, int64_t*, int32_t*, int64_t*);
template void transpose_csr(const Csr<int64_t>&, int64_t*, int64_t*, int64_t*);

}  // namespace gnnscale
