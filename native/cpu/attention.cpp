#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "buffer.h"
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

// exp without branches, so that a loop over it becomes vector code; within 2 units in the last place (polynomial of
// Cephes' expf). What would not be a normal number is 0.
INLINE float exponential(float x) {
    constexpr float lowest = -87.0f, highest = 88.0f, magic = 12582912.0f;  // 1.5 * 2^23: rounds to an integer
    float y = x < lowest ? lowest : x;
    y = y > highest ? highest : y;
    const float shifted = y * 1.44269504088896341f + magic;
    const float n = shifted - magic;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;  // of the magic number nothing is left: 2^n
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return x < lowest ? 0.0f : p * power;
}

INLINE double exponential(double x) { return std::exp(x); }

template <class Real>
INLINE void exponentials(Real* values, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) values[i] = exponential(values[i]);
}

// Numbers for the edges of one row, whose memory is kept from row to row.
template <class Real>
class Scratch {
  public:
    Real* of(int64_t size) {
        if (size > static_cast<int64_t>(memory_.size())) memory_.resize(2 * size);
        return memory_.data();
    }

  private:
    Buffer<Real> memory_;
};

// sum[h, c] += weight[h] row[h, c]. `Columns` is the number of columns where it is known at compile time, else 0.
template <int64_t Columns, class Real>
INLINE void add_row(const Real* weight, const Real* row, int64_t heads, int64_t columns, Real* __restrict sum) {
    if (Columns) columns = Columns;
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t c = 0; c < columns; ++c) sum[h * columns + c] += weight[h] * row[h * columns + c];
}

template <int64_t Columns, class Real>
INLINE Real dot(const Real* a, const Real* b, int64_t columns) {
    if (Columns) columns = Columns;
    Real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < columns; ++c) sum += a[c] * b[c];
    return sum;
}

// Scores of row v's edges, the own row last, and for LeakyReLU whether they are above the kink, as 1 and 0.
template <class Real>
INLINE void scores_of_row(const Attention<Real>& a, int64_t v, int64_t last, Real* __restrict score,
                          Real* __restrict above) {
    const int64_t heads = a.heads, first = a.matrix.indptr[v], stop = a.matrix.indptr[v + 1];
    if (a.scores) {
        std::copy_n(a.scores + first * heads, (stop - first) * heads, score);
    } else {
        const Real* target = a.target + v * heads;
        for (int64_t e = first; e < stop + a.own_row; ++e, score += heads, above += heads) {
            if (e + 16 <= last) prefetch_row(a.source + a.matrix.indices[e + 16] * heads, heads);
            const Real* source = a.source + (e < stop ? a.matrix.indices[e] : v) * heads;
            for (int64_t h = 0; h < heads; ++h) {
                const Real raw = source[h] + target[h];
                score[h] = raw > 0 ? raw : a.slope * raw;
                above[h] = raw > 0 ? Real(1) : Real(0);
            }
        }
        score -= (stop - first + a.own_row) * heads;
    }
    if (a.log_multiplicity)
        for (int64_t e = first; e < stop; ++e, score += heads)
            for (int64_t h = 0; h < heads; ++h) score[h] += a.log_multiplicity[e];
}

template <int64_t Columns, class Real>
INLINE void attend_rows(const Attention<Real>& a, const Attended<Real>& result, int64_t begin, int64_t end) {
    const Csr<>& matrix = a.matrix;
    const int64_t heads = a.heads, columns = Columns ? Columns : a.columns, width = heads * columns;
    const int64_t last = matrix.indptr[end] - 1, ahead = edges_ahead<Real>(width);
    Scratch<Real> scratch;
    for (int64_t v = begin; v < end; ++v) {
        const int64_t first = matrix.indptr[v], stop = matrix.indptr[v + 1], count = stop - first + a.own_row;
        Real* weight = scratch.of((2 * count + 3) * heads);
        Real* above = weight + count * heads;
        Real* largest = above + count * heads;
        Real* total = largest + heads;
        Real* share = total + heads;
        scores_of_row(a, v, last, weight, above);

        // The softmax does not change where all scores of a row become smaller by their largest.
        std::fill_n(largest, heads, -std::numeric_limits<Real>::infinity());
        for (int64_t i = 0; i < count; ++i)
            for (int64_t h = 0; h < heads; ++h) largest[h] = std::max(weight[i * heads + h], largest[h]);
        for (int64_t h = 0; h < heads; ++h)
            if (largest[h] == -std::numeric_limits<Real>::infinity()) largest[h] = 0;
        for (int64_t i = 0; i < count; ++i)
            for (int64_t h = 0; h < heads; ++h) weight[i * heads + h] -= largest[h];
        exponentials(weight, count * heads);
        std::fill_n(total, heads, Real(0));
        for (int64_t i = 0; i < count; ++i)
            for (int64_t h = 0; h < heads; ++h) total[h] += weight[i * heads + h];
        for (int64_t h = 0; h < heads; ++h) {
            if (!(total[h] == 0)) continue;
            total[h] = 1;
        }
        for (int64_t h = 0; h < heads; ++h) {
            result.log_sum[v * heads + h] = largest[h] + std::log(total[h]);
            total[h] = 1 / total[h];
        }
        for (int64_t i = 0; i < count; ++i)
            for (int64_t h = 0; h < heads; ++h) weight[i * heads + h] *= total[h];

        if (result.share) {
            std::fill_n(share, heads, Real(0));
            for (int64_t i = 0; i < count; ++i)
                for (int64_t h = 0; h < heads; ++h) share[h] += above[i * heads + h] *= weight[i * heads + h];
            std::copy_n(share, heads, result.share + v * heads);
        }
        if (a.mask) {
            for (int64_t i = 0; i < count; ++i) {
                const Real* mask = a.mask + (first + i < stop ? first + i : matrix.num_edges + v) * heads;
                for (int64_t h = 0; h < heads; ++h) {
                    weight[i * heads + h] *= mask[h];
                    above[i * heads + h] *= mask[h];
                }
            }
        }

        Real* out = result.out + v * width;
        Real* positive = result.positive + v * width;
        std::fill_n(out, width, Real(0));
        if (result.positive) std::fill_n(positive, width, Real(0));
        for (int64_t i = 0; i < count; ++i) {
            const int64_t e = first + i;
            if (e + ahead <= last) prefetch_row(a.x + matrix.indices[e + ahead] * width, width);
            const Real* row = a.x + (e < stop ? matrix.indices[e] : v) * width;
            add_row<Columns>(weight + i * heads, row, heads, columns, out);
            if (result.positive) add_row<Columns>(above + i * heads, row, heads, columns, positive);
        }
    }
}

// What an edge of the transpose reads of its destination, side by side: target, log_sum and <grad, out>, a head each.
template <class Real>
INLINE void describe_rows(const Attention<Real>& a, const Attended<const Real>& result, const Real* grad,
                          Real* grad_target, Real* described, int64_t begin, int64_t end) {
    const int64_t heads = a.heads, columns = a.columns;
    for (int64_t v = begin; v < end; ++v) {
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t i = v * heads + h, at = i * columns;
            const Real along = dot<0>(grad + at, result.out + at, columns);
            Real* facts = described + 3 * v * heads + h;
            facts[0] = a.target ? a.target[i] : Real(0);
            facts[heads] = result.log_sum[i];
            facts[2 * heads] = along;
            if (grad_target)
                grad_target[i] =
                    (1 - a.slope) * (dot<0>(grad + at, result.positive + at, columns) - result.share[i] * along);
        }
    }
}

// Gradients in the rows and scores of the sources [begin, end).
template <int64_t Columns, class Real>
INLINE void attend_backward_rows(const Attention<Real>& a, const Csr<>& transposed, const int64_t* permutation,
                                 const Real* described, const Real* grad, const AttentionGradients<Real>& gradients,
                                 int64_t begin, int64_t end) {
    const int64_t heads = a.heads, columns = Columns ? Columns : a.columns, width = heads * columns;
    const int64_t last = transposed.indptr[end] - 1, ahead = edges_ahead<Real>(width);
    Scratch<Real> scratch;
    for (int64_t u = begin; u < end; ++u) {
        const int64_t first = transposed.indptr[u], stop = transposed.indptr[u + 1];
        const int64_t count = stop - first + (a.own_row && u < a.matrix.num_rows);
        const Real* row = a.x + u * width;
        Real* weight = scratch.of(2 * count * heads);
        Real* slope = weight + count * heads;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t e = first + i;
            if (e + 16 <= last) prefetch_row(described + 3 * transposed.indices[e + 16] * heads, 3 * heads);
            const Real* facts = described + 3 * (e < stop ? transposed.indices[e] : u) * heads;
            Real* on_edge = weight + i * heads;
            Real* on_slope = slope + i * heads;
            if (a.scores) {
                const Real* score = a.scores + permutation[e] * heads;
                if (e + 16 <= last) prefetch_row(a.scores + permutation[e + 16] * heads, heads);
                for (int64_t h = 0; h < heads; ++h) on_edge[h] = score[h] - facts[heads + h];
            } else {
                for (int64_t h = 0; h < heads; ++h) {
                    const Real raw = a.source[u * heads + h] + facts[h];
                    on_slope[h] = raw > 0 ? Real(1) : a.slope;
                    on_edge[h] = on_slope[h] * raw - facts[heads + h];
                }
            }
            if (a.log_multiplicity && e < stop) {
                const Real more = a.log_multiplicity[permutation[e]];
                for (int64_t h = 0; h < heads; ++h) on_edge[h] += more;
            }
        }
        exponentials(weight, count * heads);

        Real* grad_row = gradients.x + u * width;
        std::fill_n(grad_row, width, Real(0));
        if (gradients.source) std::fill_n(gradients.source + u * heads, heads, Real(0));
        for (int64_t i = 0; i < count; ++i) {
            const int64_t e = first + i;
            if (e + ahead <= last) prefetch_row(grad + transposed.indices[e + ahead] * width, width);
            const int64_t v = e < stop ? transposed.indices[e] : u;
            const int64_t edge = e < stop ? permutation[e] : a.matrix.num_edges + u;
            const Real* upstream = grad + v * width;
            const Real* along = described + (3 * v + 2) * heads;
            Real* on_edge = weight + i * heads;
            for (int64_t h = 0; h < heads; ++h) {
                const Real factor = a.mask ? a.mask[edge * heads + h] : Real(1);
                const Real in_weight = factor * dot<Columns>(upstream + h * columns, row + h * columns, columns);
                const Real in_score = on_edge[h] * (in_weight - along[h]);
                if (gradients.source)
                    gradients.source[u * heads + h] += slope[i * heads + h] * in_score;
                else
                    gradients.scores[edge * heads + h] = in_score;
                on_edge[h] *= factor;
            }
            add_row<Columns>(on_edge, upstream, heads, columns, grad_row);
        }
    }
}

// Multiversioning wants plain functions, hence these overloads.
#define KERNELS(Real, Columns)                                                                                   \
    MULTIVERSION void attend_kernel_##Columns(const Attention<Real>& a, const Attended<Real>& result,            \
                                              int64_t begin, int64_t end) {                                      \
        attend_rows<Columns>(a, result, begin, end);                                                             \
    }                                                                                                            \
    MULTIVERSION void backward_kernel_##Columns(const Attention<Real>& a, const Csr<>& transposed,               \
                                                const int64_t* permutation, const Real* described,               \
                                                const Real* grad, const AttentionGradients<Real>& gradients,     \
                                                int64_t begin, int64_t end) {                                    \
        attend_backward_rows<Columns>(a, transposed, permutation, described, grad, gradients, begin, end);       \
    }
KERNELS(float, 0)
KERNELS(float, 8)
KERNELS(float, 16)
KERNELS(float, 32)
KERNELS(float, 64)
KERNELS(double, 0)
#undef KERNELS

#define DESCRIBE(Real)                                                                                       \
    MULTIVERSION void describe_kernel(const Attention<Real>& a, const Attended<const Real>& result,          \
                                      const Real* grad, Real* grad_target, Real* described, int64_t begin,   \
                                      int64_t end) {                                                         \
        describe_rows(a, result, grad, grad_target, described, begin, end);                                  \
    }
DESCRIBE(float)
DESCRIBE(double)
#undef DESCRIBE

template <class... Arguments>
void attend_by_columns(const Attention<float>& a, Arguments&&... rest) {
    switch (a.columns) {
        case 8: return attend_kernel_8(a, rest...);
        case 16: return attend_kernel_16(a, rest...);
        case 32: return attend_kernel_32(a, rest...);
        case 64: return attend_kernel_64(a, rest...);
        default: return attend_kernel_0(a, rest...);
    }
}
template <class... Arguments>
void attend_by_columns(const Attention<double>& a, Arguments&&... rest) {
    attend_kernel_0(a, rest...);
}
template <class... Arguments>
void backward_by_columns(const Attention<float>& a, Arguments&&... rest) {
    switch (a.columns) {
        case 8: return backward_kernel_8(a, rest...);
        case 16: return backward_kernel_16(a, rest...);
        case 32: return backward_kernel_32(a, rest...);
        case 64: return backward_kernel_64(a, rest...);
        default: return backward_kernel_0(a, rest...);
    }
}
template <class... Arguments>
void backward_by_columns(const Attention<double>& a, Arguments&&... rest) {
    backward_kernel_0(a, rest...);
}

void check_permutation(const int64_t* permutation, int64_t first, int64_t stop, int64_t num_edges) {
    for (int64_t e = first; e < stop; ++e)
        if (static_cast<uint64_t>(permutation[e]) >= static_cast<uint64_t>(num_edges))
            throw std::invalid_argument("permutation holds " + std::to_string(permutation[e]) +
                                        "; there are " + std::to_string(num_edges) + " edges.");
}

}  // namespace

template <class Real>
void attend(const Attention<Real>& attention, const Attended<Real>& result, int num_threads) {
    run_checked(attention.matrix, 2 * attention.heads * (attention.columns + 8), num_threads,
                [&](int64_t begin, int64_t end) { attend_by_columns(attention, result, begin, end); });
}

template <class Real>
void attend_backward(const Attention<Real>& attention, const Csr<>& transposed, const int64_t* permutation,
                     const Attended<const Real>& result, const Real* grad, const AttentionGradients<Real>& gradients,
                     int num_threads) {
    const int64_t rows = attention.matrix.num_rows, heads = attention.heads;
    Buffer<Real> described(3 * rows * heads);
    run_ranges(rows, parts_for(rows * heads * (attention.columns + 8), 1 << 20, num_threads),
               [&](int64_t begin, int64_t end) {
                   describe_kernel(attention, result, grad, gradients.target, described.data(), begin, end);
               });
    run_checked(transposed, 2 * heads * (attention.columns + 8), num_threads, [&](int64_t begin, int64_t end) {
        check_permutation(permutation, transposed.indptr[begin], transposed.indptr[end], transposed.num_edges);
        backward_by_columns(attention, transposed, permutation, described.data(), grad, gradients, begin, end);
    });
}

#define INSTANTIATE(Real)                                                                                       \
    template void attend(const Attention<Real>&, const Attended<Real>&, int);                                   \
    template void attend_backward(const Attention<Real>&, const Csr<>&, const int64_t*,                         \
                                  const Attended<const Real>&, const Real*, const AttentionGradients<Real>&, int);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace gnnscale
