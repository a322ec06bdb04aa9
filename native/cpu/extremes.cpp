#include "extremes.h"

#include <algorithm>

#include "multiversion.h"

#define INLINE inline __attribute__((always_inline))

namespace gnnscale {
namespace {

constexpr int64_t kTile = 64;
constexpr int64_t kEdgesAhead = 8;

template <class Real>
INLINE void prefetch_row(const Real* row, int64_t width) {
    constexpr int64_t line = 64 / sizeof(Real);
    for (int64_t c = 0; c < width; c += line) __builtin_prefetch(row + c, 0, 2);
}

// Columns [0, Width) of the tile, or `width` of them where that is less.
template <bool Largest, bool Whole, class Real>
INLINE void extremes_tile(const Csr<>& matrix, int64_t v, int64_t last, const Real* x, int64_t stride,
                          int64_t width, Real* out, Real* ties) {
    const int64_t columns = Whole ? kTile : width;
    const int64_t first = matrix.indptr[v], stop = matrix.indptr[v + 1];
    Real best[kTile], count[kTile];
    for (int64_t c = 0; c < columns; ++c) best[c] = count[c] = 0;
    for (int64_t e = first; e < stop; ++e) {
        prefetch_row(x + matrix.indices[std::min(e + kEdgesAhead, last)] * stride, columns);
        const Real* row = x + matrix.indices[e] * stride;
        const bool starts = e == first;
        for (int64_t c = 0; c < columns; ++c) {
            const Real value = row[c];
            const bool better = starts | (Largest ? value > best[c] : value < best[c]) | (value != value);
            count[c] = better ? Real(1) : count[c] + (value == best[c] ? Real(1) : Real(0));
            best[c] = better ? value : best[c];
        }
    }
    std::copy_n(best, columns, out);
    if (ties) std::copy_n(count, columns, ties);
}

template <bool Largest, class Real>
INLINE void extremes_rows(const Csr<>& matrix, const Real* x, int64_t width, Real* out, Real* ties,
                          int64_t begin, int64_t end) {
    const int64_t last = matrix.indptr[end] - 1;
    for (int64_t v = begin; v < end; ++v) {
        for (int64_t c = 0; c < width; c += kTile) {
            const int64_t place = v * width + c;
            Real* count = ties ? ties + place : nullptr;
            if (width - c >= kTile)
                extremes_tile<Largest, true>(matrix, v, last, x + c, width, kTile, out + place, count);
            else
                extremes_tile<Largest, false>(matrix, v, last, x + c, width, width - c, out + place, count);
        }
    }
}

template <class Real>
INLINE void backward_rows(const Csr<>& transposed, const Real* __restrict x, const Real* __restrict extreme,
                          const Real* __restrict share, int64_t width, Real* __restrict grad, int64_t begin,
                          int64_t end) {
    const int64_t last = transposed.indptr[end] - 1;
    for (int64_t u = begin; u < end; ++u) {
        const Real* own = x + u * width;
        Real* sum = grad + u * width;
        std::fill_n(sum, width, Real(0));
        for (int64_t e = transposed.indptr[u]; e < transposed.indptr[u + 1]; ++e) {
            const int64_t next = transposed.indices[std::min(e + kEdgesAhead / 2, last)] * width;
            prefetch_row(extreme + next, width);
            prefetch_row(share + next, width);
            const int64_t row = transposed.indices[e] * width;
            for (int64_t c = 0; c < width; ++c)
                sum[c] += own[c] == extreme[row + c] ? share[row + c] : Real(0);
        }
    }
}

// Multiversioning wants plain functions, hence these overloads.
#define KERNELS(Real)                                                                                           \
    MULTIVERSION void extremes_kernel(const Csr<>& matrix, const Real* x, int64_t width, bool largest,          \
                                      Real* out, Real* ties, int64_t begin, int64_t end) {                      \
        if (largest)                                                                                            \
            extremes_rows<true>(matrix, x, width, out, ties, begin, end);                                       \
        else                                                                                                    \
            extremes_rows<false>(matrix, x, width, out, ties, begin, end);                                      \
    }                                                                                                           \
    MULTIVERSION void backward_kernel(const Csr<>& transposed, const Real* x, const Real* extreme,              \
                                      const Real* share, int64_t width, Real* grad, int64_t begin,              \
                                      int64_t end) {                                                            \
        backward_rows(transposed, x, extreme, share, width, grad, begin, end);                                  \
    }
KERNELS(float)
KERNELS(double)
#undef KERNELS

}  // namespace

template <class Real>
void extremes(const Csr<>& matrix, const Real* x, int64_t width, bool largest, Real* out, Real* ties,
              int num_threads) {
    run_checked(matrix, width, num_threads, [&](int64_t begin, int64_t end) {
        extremes_kernel(matrix, x, width, largest, out, ties, begin, end);
    });
}

template <class Real>
void extremes_backward(const Csr<>& transposed, const Real* x, const Real* extreme, const Real* share,
                       int64_t width, Real* grad, int num_threads) {
    run_checked(transposed, width, num_threads, [&](int64_t begin, int64_t end) {
        backward_kernel(transposed, x, extreme, share, width, grad, begin, end);
    });
}

#define INSTANTIATE(Real)                                                                                     \
    template void extremes(const Csr<>&, const Real*, int64_t, bool, Real*, Real*, int);                      \
    template void extremes_backward(const Csr<>&, const Real*, const Real*, const Real*, int64_t, Real*, int);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace gnnscale
