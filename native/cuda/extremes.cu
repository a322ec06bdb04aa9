// The largest or smallest of rows, column by column, and their gradient.
#include "kernels.h"

namespace gnnscale::gpu {
namespace {

template <class Real, int N>
struct Extremes {
    static constexpr bool kProbes = false;
    struct State {
        float best[N] = {}, ties[N] = {};  // no ties: no edge yet
    };
    struct Row {};
    using Loaded = Pack<Real, N>;

    Shape shape;
    Integers indices;
    const Real* x;
    int64_t width;
    bool largest;
    Real* out;
    float* ties;

    DEVICE int64_t column(int64_t tile, int lane) const { return (tile * shape.group + lane) * N; }
    DEVICE bool has_own(int64_t) const { return false; }
    DEVICE Row open(int64_t, int64_t, int) const { return {}; }

    // `count` edges lead to `value`. NaN is beyond anything.
    DEVICE void meet(float& best, float& ties, float value, float count) const {
        const bool beyond = largest ? value > best : value < best;
        if (ties == 0 || beyond || value != value) {
            best = value;
            ties = count;
        } else if (value == best) {
            ties += count;
        }
    }

    DEVICE Loaded load(const Row&, int64_t edge, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return {};
        return read_pack<N>(x + indices[edge] * width + column(tile, lane));
    }

    DEVICE void add(State& state, const Row&, const Loaded& loaded, int64_t, int) const {
#pragma unroll
        for (int i = 0; i < N; ++i) meet(state.best[i], state.ties[i], widen(loaded.values[i]), 1.0f);
    }

    DEVICE void merge(State& state, const State& other) const {
#pragma unroll
        for (int i = 0; i < N; ++i)
            if (other.ties[i] > 0) meet(state.best[i], state.ties[i], other.best[i], other.ties[i]);
    }

    DEVICE void finish(const State& state, const Row&, int64_t row, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return;
        Pack<Real, N> best;
        Pack<float, N> count;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            narrow(state.best[i], best.values[i]);
            count.values[i] = state.ties[i];
        }
        write_pack(best, out + row * width + column(tile, lane));
        write_pack(count, ties + row * width + column(tile, lane));
    }
};

// Rows are the sources, edges lead to destinations.
template <class Real, int N>
struct ExtremesBackward {
    static constexpr bool kProbes = false;
    struct State {
        float sums[N] = {};
    };
    using Row = Pack<Real, N>;
    struct Loaded {
        Pack<Real, N> extreme;
        Pack<float, N> share;
    };

    Shape shape;
    Integers indices;
    const Real *x, *extreme;
    const float* share;
    int64_t width;
    Real* grad;

    DEVICE int64_t column(int64_t tile, int lane) const { return (tile * shape.group + lane) * N; }
    DEVICE bool has_own(int64_t) const { return false; }
    DEVICE Row open(int64_t row, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return {};
        return read_pack<N>(x + row * width + column(tile, lane));
    }

    DEVICE Loaded load(const Row&, int64_t edge, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return {};
        const int64_t place = indices[edge] * width + column(tile, lane);
        return {read_pack<N>(extreme + place), read_pack<N>(share + place)};
    }

    DEVICE void add(State& state, const Row& own, const Loaded& loaded, int64_t, int) const {
#pragma unroll
        for (int i = 0; i < N; ++i)
            state.sums[i] +=
                widen(own.values[i]) == widen(loaded.extreme.values[i]) ? loaded.share.values[i] : 0.0f;
    }

    DEVICE void merge(State& state, const State& other) const {
#pragma unroll
        for (int i = 0; i < N; ++i) state.sums[i] += other.sums[i];
    }

    DEVICE void finish(const State& state, const Row&, int64_t row, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return;
        Pack<Real, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) narrow(state.sums[i], pack.values[i]);
        write_pack(pack, grad + row * width + column(tile, lane));
    }
};

}  // namespace

template <class Real>
void extremes(const Matrix& matrix, const Real* x, int64_t width, bool largest, Real* out, float* ties,
              Allocator& memory, Stream stream) {
    if (width == 0) return;
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        const Extremes<Real, N> work = {shape_for(width, N), matrix.indices, x, width, largest, out, ties};
        reduce_rows(work, matrix.rows, memory, stream);
    };
    constexpr int N = kPack<Real, float>;
    if (fits_packs(x, width, N) && fits_packs(out, width, N) && fits_packs(ties, width, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

template <class Real>
void extremes_backward(const Matrix& transposed, const Real* x, const Real* extreme, const float* share,
                       int64_t width, Real* grad, Allocator& memory, Stream stream) {
    if (width == 0) return;
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        const ExtremesBackward<Real, N> work = {shape_for(width, N), transposed.indices, x, extreme, share, width, grad};
        reduce_rows(work, transposed.rows, memory, stream);
    };
    constexpr int N = kPack<Real, float>;
    if (fits_packs(x, width, N) && fits_packs(extreme, width, N) && fits_packs(share, width, N) &&
        fits_packs(grad, width, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

#define INSTANTIATE(Real)                                                                                      \
    template void extremes(const Matrix&, const Real*, int64_t, bool, Real*, float*, Allocator&, Stream);      \
    template void extremes_backward(const Matrix&, const Real*, const Real*, const float*, int64_t, Real*, \
                                    Allocator&, Stream);
INSTANTIATE(float)
INSTANTIATE(BFloat16)

}  // namespace gnnscale::gpu
