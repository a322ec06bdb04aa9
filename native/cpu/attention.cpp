#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

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

#define EXPONENTIALS(Real)                                                              \
    MULTIVERSION void exponentials(Real* values, int64_t count) {                       \
        for (int64_t i = 0; i < count; ++i) values[i] = exponential(values[i]);         \
    }
EXPONENTIALS(float)
EXPONENTIALS(double)
#undef EXPONENTIALS

// Some consecutive rows of a matrix and their edges, own rows made edges like any others. Work goes block by block:
// what is known of a block's edges stays in the second-level cache from one step to the next.
template <class Real>
class Block {
  public:
    // Rows from `begin` on, at least one and at most up to `end`; the rows below `num_own` have an own row, whose
    // number among the edges is num_edges + row. `order`, where given, holds the edges' numbers.
    void fill(const Csr<>& matrix, int64_t num_own, const int64_t* order, int64_t heads, int64_t begin, int64_t end) {
        const int64_t most = kNumbers / heads, start = matrix.indptr[begin];
        int64_t stop = begin + 1;
        while (stop < end && matrix.indptr[stop + 1] - start + stop - begin < most) ++stop;
        first_row = begin;
        num_rows = stop - begin;
        num_edges = matrix.indptr[stop] - start + std::max<int64_t>(std::min(num_own, stop) - begin, 0);
        starts_.at_least(num_rows + 1);
        cols_.at_least(num_edges);
        ids_.at_least(num_edges);
        int64_t at = 0;
        for (int64_t v = begin; v < stop; ++v) {
            starts_.data[v - begin] = at;
            for (int64_t e = matrix.indptr[v]; e < matrix.indptr[v + 1]; ++e, ++at) {
                cols_.data[at] = matrix.indices[e];
                ids_.data[at] = order ? order[e] : e;
            }
            if (v < num_own) {
                cols_.data[at] = static_cast<int32_t>(v);
                ids_.data[at++] = matrix.num_edges + v;
            }
        }
        starts_.data[num_rows] = at;
    }

    int64_t first_row, num_rows, num_edges;
    const int64_t* starts() const { return starts_.data; }
    const int32_t* cols() const { return cols_.data; }
    const int64_t* ids() const { return ids_.data; }

    // Memory for one number an edge and head; what is in there stays until the next block.
    Real* numbers(int which, int64_t heads) {
        numbers_[which].at_least(num_edges * heads);
        return numbers_[which].data;
    }

  private:
    static constexpr int64_t kNumbers = 1 << 13;

    template <class T>
    struct Array {
        Buffer<T> memory;
        T* data = nullptr;
        void at_least(int64_t size) {
            if (data == nullptr || size > static_cast<int64_t>(memory.size())) memory.resize(size + size / 2 + 1);
            data = memory.data();
        }
    };
    Array<int64_t> starts_, ids_;
    Array<int32_t> cols_;
    Array<Real> numbers_[4];
};

// Without branches, which would be mispredicted as often as not. NaN stays NaN.
template <class Real>
INLINE Real leaky(Real x, Real slope) {
    return (x < 0 ? Real(0) : x) + slope * (x < 0 ? x : Real(0));
}

// `N` is a number known at compile time, or 0 for one that is not.
template <int64_t N>
INLINE int64_t extent(int64_t known_later) {
    return N ? N : known_later;
}

// Into weight: the exponentials' arguments, scores less the largest of their row; into above: 1 for scores above
// LeakyReLU's kink and 0 for others; into log_sum: the largest.
template <int64_t Heads, class Real>
INLINE void shifted_scores(const Attention<Real>& a, const Block<Real>& block, Real* __restrict weight,
                           Real* __restrict above, Real* __restrict log_sum) {
    const int64_t heads = extent<Heads>(a.heads);
    const int64_t* starts = block.starts();
    for (int64_t j = 0; j < block.num_rows; ++j) {
        const int64_t v = block.first_row + j;
        Real* __restrict largest = log_sum + v * heads;
        for (int64_t h = 0; h < heads; ++h) largest[h] = -std::numeric_limits<Real>::infinity();
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i) {
            const int64_t id = block.ids()[i];
            const Real more = a.log_multiplicity && id < a.matrix.num_edges ? a.log_multiplicity[id] : Real(0);
            if (a.scores) {
                const Real* score = a.scores + id * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) weight[i * heads + h] = score[h] + more;
            } else {
                const Real* target = a.target + v * heads;
                const Real* source = a.source + block.cols()[i] * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) {
                    const Real raw = source[h] + target[h];
                    above[i * heads + h] = static_cast<Real>(raw > 0);
                    weight[i * heads + h] = leaky(raw, a.slope) + more;
                }
            }
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h)
                largest[h] = weight[i * heads + h] > largest[h] ? weight[i * heads + h] : largest[h];
        }
        for (int64_t h = 0; h < heads; ++h)
            if (largest[h] == -std::numeric_limits<Real>::infinity()) largest[h] = 0;
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i)
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h) weight[i * heads + h] -= largest[h];
    }
}

// From exponentials to weights that add up to 1; also what else the gradient needs, and the mask.
template <int64_t Heads, class Real>
INLINE void normalise(const Attention<Real>& a, const Attended<Real>& result, const Block<Real>& block,
                      Real* __restrict weight, Real* __restrict above, Real* __restrict sums) {
    const int64_t heads = extent<Heads>(a.heads);
    const int64_t* starts = block.starts();
    Real* __restrict total = sums;
    Real* __restrict share = sums + heads;
    for (int64_t j = 0; j < block.num_rows; ++j) {
        const int64_t v = block.first_row + j;
        for (int64_t h = 0; h < heads; ++h) total[h] = share[h] = 0;
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i)
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h) total[h] += weight[i * heads + h];
        for (int64_t h = 0; h < heads; ++h) {
            total[h] = total[h] == 0 ? Real(1) : total[h];
            result.log_sum[v * heads + h] += std::log(total[h]);
            total[h] = 1 / total[h];
        }
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i) {
            Real* __restrict w = weight + i * heads;
            Real* __restrict p = above + i * heads;
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h) w[h] *= total[h];
            if (result.share) {
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) {
                    p[h] *= w[h];
                    share[h] += p[h];
                }
            }
            if (a.mask) {
                const Real* mask = a.mask + block.ids()[i] * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) w[h] *= mask[h];
                if (!result.share) continue;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) p[h] *= mask[h];
            }
        }
        if (result.share) std::copy_n(share, heads, result.share + v * heads);
    }
}

// sum[h, c] += weight[h] mask[h] row[h, c].
template <int64_t Columns, class Real>
INLINE void add_row(const Real* weight, const Real* row, int64_t heads, int64_t columns, Real* __restrict sum,
                    const Real* mask = nullptr) {
    columns = extent<Columns>(columns);
    for (int64_t h = 0; h < heads; ++h) {
        const Real factor = mask ? weight[h] * mask[h] : weight[h];
        if constexpr (Columns > 0) {  // in vectors by hand: the compiler makes shuffles of loops that short
            constexpr int64_t lanes = std::min<int64_t>(Columns, 16);
            typedef Real Lanes __attribute__((vector_size(lanes * sizeof(Real))));
            for (int64_t c = h * Columns; c < (h + 1) * Columns; c += lanes) {
                Lanes added, total;
                std::memcpy(&added, row + c, sizeof added);
                std::memcpy(&total, sum + c, sizeof total);
                total += factor * added;
                std::memcpy(sum + c, &total, sizeof total);
            }
            continue;
        }
#pragma omp simd
        for (int64_t c = 0; c < columns; ++c) sum[h * columns + c] += factor * row[h * columns + c];
    }
}

template <int64_t Columns, class Real>
INLINE Real dot(const Real* a, const Real* b, int64_t columns) {
    columns = extent<Columns>(columns);
    Real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < columns; ++c) sum += a[c] * b[c];
    return sum;
}

template <int64_t Columns, class Real>
INLINE void add_rows(const Attention<Real>& a, const Attended<Real>& result, const Block<Real>& block,
                     const Real* weight, const Real* above) {
    const int64_t heads = a.heads, columns = extent<Columns>(a.columns), width = heads * columns;
    const int64_t ahead = edges_ahead<Real>(width);
    const int32_t* cols = block.cols();
    for (int64_t j = 0; j < block.num_rows; ++j) {
        const int64_t at = (block.first_row + j) * width;
        std::fill_n(result.out + at, width, Real(0));
        if (result.positive) std::fill_n(result.positive + at, width, Real(0));
        for (int64_t i = block.starts()[j]; i < block.starts()[j + 1]; ++i) {
            if (i + ahead < block.num_edges) prefetch_row(a.x + cols[i + ahead] * width, width);
            const Real* row = a.x + cols[i] * width;
            add_row<Columns>(weight + i * heads, row, heads, columns, result.out + at);
            if (result.positive) add_row<Columns>(above + i * heads, row, heads, columns, result.positive + at);
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

// The exponentials' arguments of the weights themselves, edges by source now; also LeakyReLU's slope at each score, and <grad, out> of its row.
template <int64_t Heads, class Real>
INLINE void shift_again(const Attention<Real>& a, const Real* described, const Block<Real>& block,
                        Real* __restrict weight, Real* __restrict slope, Real* __restrict along) {
    const int64_t heads = extent<Heads>(a.heads);
    const int64_t* starts = block.starts();
    for (int64_t j = 0; j < block.num_rows; ++j) {
        const int64_t u = block.first_row + j;
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i) {
            if (i + 16 < block.num_edges) {
                prefetch_row(described + 3 * block.cols()[i + 16] * heads, 3 * heads);
                if (a.scores) prefetch_row(a.scores + block.ids()[i + 16] * heads, heads);
                if (a.mask) prefetch_row(a.mask + block.ids()[i + 16] * heads, heads);
            }
            const Real* facts = described + 3 * block.cols()[i] * heads;
            const int64_t id = block.ids()[i];
            const Real more = a.log_multiplicity && id < a.matrix.num_edges ? a.log_multiplicity[id] : Real(0);
            if (a.scores) {
                const Real* score = a.scores + id * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) weight[i * heads + h] = score[h] + more - facts[heads + h];
            } else {
                const Real* source = a.source + u * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) {
                    const Real raw = source[h] + facts[h];
                    slope[i * heads + h] = a.slope + (1 - a.slope) * static_cast<Real>(raw > 0);
                    weight[i * heads + h] = leaky(raw, a.slope) + more - facts[heads + h];
                }
            }
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h) along[i * heads + h] = facts[2 * heads + h];
        }
    }
}

// Into dots: <x[u], grad[v]> of each edge, head by head; grad.x is the sum of the rows of grad.
template <int64_t Columns, class Real>
INLINE void add_gradients(const Attention<Real>& a, const Real* grad, Real* grad_x, const Block<Real>& block,
                          const Real* weight, Real* __restrict dots) {
    const int64_t heads = a.heads, columns = extent<Columns>(a.columns), width = heads * columns;
    const int64_t ahead = edges_ahead<Real>(width);
    const int32_t* cols = block.cols();
    for (int64_t j = 0; j < block.num_rows; ++j) {
        const int64_t u = block.first_row + j;
        const Real* row = a.x + u * width;
        Real* __restrict sum = grad_x + u * width;
        std::fill_n(sum, width, Real(0));
        for (int64_t i = block.starts()[j]; i < block.starts()[j + 1]; ++i) {
            if (i + ahead < block.num_edges) prefetch_row(grad + cols[i + ahead] * width, width);
            const Real* upstream = grad + cols[i] * width;
            for (int64_t h = 0; h < heads; ++h)
                dots[i * heads + h] = dot<Columns>(upstream + h * columns, row + h * columns, columns);
            add_row<Columns>(weight + i * heads, upstream, heads, columns, sum,
                             a.mask ? a.mask + block.ids()[i] * heads : nullptr);
        }
    }
}

// Into dots: the gradients in the scores; into `sum`, where given, those in the sources' own.
template <int64_t Heads, class Real>
INLINE void score_gradients(const Attention<Real>& a, const Block<Real>& block, const Real* weight,
                            const Real* slope, const Real* along, Real* __restrict dots, Real* __restrict sums) {
    const int64_t heads = extent<Heads>(a.heads);
    const int64_t* starts = block.starts();
    for (int64_t j = 0; j < block.num_rows; ++j) {
        Real* __restrict sum = sums + (block.first_row + j) * heads;
        if (sums)
            for (int64_t h = 0; h < heads; ++h) sum[h] = 0;
        for (int64_t i = starts[j]; i < starts[j + 1]; ++i) {
            Real* __restrict in_score = dots + i * heads;
            if (a.mask) {
                const Real* mask = a.mask + block.ids()[i] * heads;
#pragma omp simd
                for (int64_t h = 0; h < heads; ++h) in_score[h] *= mask[h];
            }
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h)
                in_score[h] = weight[i * heads + h] * (in_score[h] - along[i * heads + h]);
            if (!sums) continue;
#pragma omp simd
            for (int64_t h = 0; h < heads; ++h) sum[h] += slope[i * heads + h] * in_score[h];
        }
    }
}

// Multiversioning wants plain functions, hence these. The compiler takes different pointers for different memory
// only in the function whose arguments they are, so each step is one.
#define STEPS_BY_HEADS(Real, Heads)                                                                                 \
    MULTIVERSION void shift_##Heads(const Attention<Real>& a, const Block<Real>& block, Real* __restrict weight,    \
                                    Real* __restrict above, Real* __restrict log_sum) {                             \
        shifted_scores<Heads>(a, block, weight, above, log_sum);                                                    \
    }                                                                                                               \
    MULTIVERSION void normalise_##Heads(const Attention<Real>& a, const Attended<Real>& result,                     \
                                        const Block<Real>& block, Real* __restrict weight, Real* __restrict above,  \
                                        Real* __restrict sums) {                                                    \
        normalise<Heads>(a, result, block, weight, above, sums);                                                    \
    }                                                                                                               \
    MULTIVERSION void shift_again_##Heads(const Attention<Real>& a, const Real* described, const Block<Real>& block, \
                                          Real* __restrict weight, Real* __restrict slope, Real* __restrict along) { \
        shift_again<Heads>(a, described, block, weight, slope, along);                                              \
    }                                                                                                               \
    MULTIVERSION void score_gradients_##Heads(const Attention<Real>& a, const Block<Real>& block,                   \
                                              const Real* weight, const Real* slope, const Real* along,             \
                                              Real* __restrict dots, Real* __restrict sums) {                       \
        score_gradients<Heads>(a, block, weight, slope, along, dots, sums);                                         \
    }
#define STEPS_BY_COLUMNS(Real, Columns)                                                                             \
    MULTIVERSION void add_rows_##Columns(const Attention<Real>& a, const Attended<Real>& result,                    \
                                         const Block<Real>& block, const Real* weight, const Real* above) {         \
        add_rows<Columns>(a, result, block, weight, above);                                                         \
    }                                                                                                               \
    MULTIVERSION void add_gradients_##Columns(const Attention<Real>& a, const Real* grad, Real* grad_x,             \
                                              const Block<Real>& block, const Real* weight,                         \
                                              Real* __restrict dots) {                                              \
        add_gradients<Columns>(a, grad, grad_x, block, weight, dots);                                               \
    }
STEPS_BY_HEADS(float, 0)
STEPS_BY_HEADS(float, 1)
STEPS_BY_HEADS(float, 4)
STEPS_BY_HEADS(float, 8)
STEPS_BY_HEADS(double, 0)
STEPS_BY_COLUMNS(float, 0)
STEPS_BY_COLUMNS(float, 8)
STEPS_BY_COLUMNS(float, 16)
STEPS_BY_COLUMNS(float, 32)
STEPS_BY_COLUMNS(float, 64)
STEPS_BY_COLUMNS(double, 0)
#undef STEPS_BY_HEADS
#undef STEPS_BY_COLUMNS

// A step by the numbers of heads or columns: usual ones are known at compile time, for float.
#define BY_HEADS(step, ...)                                                            \
    do {                                                                               \
        if constexpr (std::is_same_v<Real, float>) {                                   \
            if (a.heads == 1) { step##_1(__VA_ARGS__); break; }                        \
            if (a.heads == 4) { step##_4(__VA_ARGS__); break; }                        \
            if (a.heads == 8) { step##_8(__VA_ARGS__); break; }                        \
        }                                                                              \
        step##_0(__VA_ARGS__);                                                         \
    } while (false)
#define BY_COLUMNS(step, ...)                                                          \
    do {                                                                               \
        if constexpr (std::is_same_v<Real, float>) {                                   \
            if (a.columns == 8) { step##_8(__VA_ARGS__); break; }                      \
            if (a.columns == 16) { step##_16(__VA_ARGS__); break; }                    \
            if (a.columns == 32) { step##_32(__VA_ARGS__); break; }                    \
            if (a.columns == 64) { step##_64(__VA_ARGS__); break; }                    \
        }                                                                              \
        step##_0(__VA_ARGS__);                                                         \
    } while (false)

template <class Real>
void attend_block(const Attention<Real>& a, const Attended<Real>& result, Block<Real>& block, Real* sums) {
    Real *weight = block.numbers(0, a.heads), *above = block.numbers(1, a.heads);
    BY_HEADS(shift, a, block, weight, above, result.log_sum);
    exponentials(weight, block.num_edges * a.heads);
    BY_HEADS(normalise, a, result, block, weight, above, sums);
    BY_COLUMNS(add_rows, a, result, block, weight, above);
}

template <class Real>
void attend_block_backward(const Attention<Real>& a, const Real* described, const Real* grad,
                           const AttentionGradients<Real>& gradients, Block<Real>& block) {
    Real *weight = block.numbers(0, a.heads), *slope = block.numbers(1, a.heads);
    Real *along = block.numbers(2, a.heads), *dots = block.numbers(3, a.heads);
    BY_HEADS(shift_again, a, described, block, weight, slope, along);
    exponentials(weight, block.num_edges * a.heads);
    BY_COLUMNS(add_gradients, a, grad, gradients.x, block, weight, dots);
    BY_HEADS(score_gradients, a, block, weight, slope, along, dots, gradients.source);
    if (gradients.scores)
        for (int64_t i = 0; i < block.num_edges; ++i)
            std::copy_n(dots + i * a.heads, a.heads, gradients.scores + block.ids()[i] * a.heads);
}
#undef BY_HEADS
#undef BY_COLUMNS

#define DESCRIBE(Real)                                                                                       \
    MULTIVERSION void describe_kernel(const Attention<Real>& a, const Attended<const Real>& result,          \
                                      const Real* grad, Real* grad_target, Real* described, int64_t begin,   \
                                      int64_t end) {                                                         \
        describe_rows(a, result, grad, grad_target, described, begin, end);                                  \
    }
DESCRIBE(float)
DESCRIBE(double)
#undef DESCRIBE

void check_permutation(const int64_t* permutation, int64_t first, int64_t stop, int64_t num_edges) {
    for (int64_t e = first; e < stop; ++e)
        if (static_cast<uint64_t>(permutation[e]) >= static_cast<uint64_t>(num_edges))
            throw std::invalid_argument("permutation holds " + std::to_string(permutation[e]) +
                                        "; there are " + std::to_string(num_edges) + " edges.");
}

}  // namespace

template <class Real>
void attend(const Attention<Real>& attention, const Attended<Real>& result, int num_threads) {
    const Csr<>& matrix = attention.matrix;
    const int64_t heads = attention.heads, num_own = attention.own_row ? matrix.num_rows : 0;
    run_checked(matrix, 2 * heads * (attention.columns + 8), num_threads, [&](int64_t begin, int64_t end) {
        Block<Real> block;
        const Buffer<Real> sums(2 * heads);
        for (int64_t v = begin; v < end; v += block.num_rows) {
            block.fill(matrix, num_own, nullptr, heads, v, end);
            attend_block(attention, result, block, sums.data());
        }
    });
}

template <class Real>
void attend_backward(const Attention<Real>& attention, const Csr<>& transposed, const int64_t* permutation,
                     const Attended<const Real>& result, const Real* grad, const AttentionGradients<Real>& gradients,
                     int num_threads) {
    const int64_t rows = attention.matrix.num_rows, heads = attention.heads;
    const int64_t num_own = attention.own_row ? rows : 0;
    const Buffer<Real> described(3 * rows * heads);
    run_ranges(rows, parts_for(rows * heads * (attention.columns + 8), 1 << 20, num_threads),
               [&](int64_t begin, int64_t end) {
                   describe_kernel(attention, result, grad, gradients.target, described.data(), begin, end);
               });
    run_checked(transposed, 2 * heads * (attention.columns + 8), num_threads, [&](int64_t begin, int64_t end) {
        check_permutation(permutation, transposed.indptr[begin], transposed.indptr[end], transposed.num_edges);
        Block<Real> block;
        for (int64_t u = begin; u < end; u += block.num_rows) {
            block.fill(transposed, num_own, permutation, heads, u, end);
            attend_block_backward(attention, described.data(), grad, gradients, block);
        }
    });
}

#define INSTANTIATE(Real)                                                                                       \
    template void attend(const Attention<Real>&, const Attended<Real>&, int);                                   \
    template void attend_backward(const Attention<Real>&, const Csr<>&, const int64_t*,                         \
                                  const Attended<const Real>&, const Real*, const AttentionGradients<Real>&, int);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace gnnscale
