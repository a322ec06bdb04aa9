// Weighted sums of rows, and the dot products that are the gradient in the weights.
#include "kernels.h"

namespace gnnscale::gpu {
namespace {

template <class In, class Out, int N>
struct WeightedSum {
    static constexpr bool kProbes = false;
    struct State {
        float sums[N] = {};
    };
    struct Row {};
    struct Loaded {
        float weight;
        Pack<In, N> pack;
    };

    Shape shape;
    Integers indices;
    const float* weights;
    const int64_t* order;
    const float* diagonal;
    int64_t diagonal_size;
    const In* x;
    int64_t width;
    Out* out;

    DEVICE int64_t column(int64_t tile, int lane) const { return (tile * shape.group + lane) * N; }
    DEVICE bool has_own(int64_t) const { return false; }
    DEVICE Row open(int64_t, int64_t, int) const { return {}; }

    DEVICE Loaded load(const Row&, int64_t edge, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return {};
        const float weight = weights ? read(weights + (order ? read(order + edge) : edge)) : 1.0f;
        return {weight, read_pack<N>(x + indices[edge] * width + column(tile, lane))};
    }

    DEVICE void add(State& state, const Row&, const Loaded& loaded, int64_t, int) const {
#pragma unroll
        for (int i = 0; i < N; ++i) state.sums[i] += loaded.weight * widen(loaded.pack.values[i]);
    }

    DEVICE void merge(State& state, const State& other) const {
#pragma unroll
        for (int i = 0; i < N; ++i) state.sums[i] += other.sums[i];
    }

    DEVICE void finish(State state, const Row&, int64_t row, int64_t tile, int lane) const {
        if (column(tile, lane) >= width) return;
        const int64_t place = row * width + column(tile, lane);
        if (row < diagonal_size) add(state, {}, {read(diagonal + row), read_pack<N>(x + place)}, tile, lane);
        Pack<Out, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) narrow(state.sums[i], pack.values[i]);
        write_pack(pack, out + place);
    }
};

// A warp takes some edges in succession, whatever their rows; its groups take one each in turn.
template <class In, class Local, int N>
struct EdgeDots {
    static constexpr int64_t kEdges = 64;

    int group;
    Matrix matrix;
    const int64_t* order;
    const In* x;
    const Local* rows;
    int64_t width;
    float* dots;

    DEVICE void operator()(int64_t warp) const {
        const int64_t first = warp * kEdges, num_edges = matrix.rows.num_edges;
        const int64_t stop = first + kEdges < num_edges ? first + kEdges : num_edges;
        const int64_t row_of_first = matrix.rows.row_of(first);
        PerLane<int64_t> row;
        each_lane([&](int lane) { row[lane] = row_of_first; });
        for (int64_t base = first; base < stop; base += kLanes / group) {
            PerLane<float> sums;
            each_lane([&](int lane) {
                const int64_t edge = base + lane / group;
                sums[lane] = 0;
                if (edge >= stop) return;
                while (matrix.rows.indptr[row[lane] + 1] <= edge) ++row[lane];
                const Local* local = rows + row[lane] * width;
                const In* other = x + matrix.indices[edge] * width;
                for (int64_t c = lane % group * N; c < width; c += group * N) {
                    const Pack<Local, N> a = read_pack<N>(local + c);
                    const Pack<In, N> b = read_pack<N>(other + c);
#pragma unroll
                    for (int i = 0; i < N; ++i) sums[lane] += widen(a.values[i]) * widen(b.values[i]);
                }
            });
            add_up(sums, group);
            each_lane([&](int lane) {
                const int64_t edge = base + lane / group;
                if (edge < stop && lane % group == 0) dots[order ? read(order + edge) : edge] = sums[lane];
            });
        }
    }
};

}  // namespace

template <class In, class Out>
void spmm(const Matrix& matrix, const float* weights, const int64_t* order, const float* diagonal,
          int64_t diagonal_size, const In* x, int64_t width, Out* out, Allocator& memory, Stream stream) {
    if (width == 0) return;
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        const WeightedSum<In, Out, N> work = {shape_for(width, N), matrix.indices, weights, order, diagonal,
                                              diagonal_size,       x,              width,   out};
        reduce_rows(work, matrix.rows, memory, stream);
    };
    constexpr int N = kPack<In, Out>;
    if (fits_packs(x, width, N) && fits_packs(out, width, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

template <class In, class Local>
void edge_dots(const Matrix& matrix, const int64_t* order, const In* x, const Local* rows, int64_t width, float* dots,
               Stream stream) {
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        using Work = EdgeDots<In, Local, N>;
        const Work work = {lanes_for(width, N), matrix, order, x, rows, width, dots};
        launch(work, (matrix.rows.num_edges + Work::kEdges - 1) / Work::kEdges, stream);
    };
    constexpr int N = kPack<In, Local>;
    if (fits_packs(x, width, N) && fits_packs(rows, width, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

#define INSTANTIATE(In, Out)                                                                                   \
    template void spmm(const Matrix&, const float*, const int64_t*, const float*, int64_t, const In*, int64_t, \
                       Out*, Allocator&, Stream);                                                              \
    template void edge_dots(const Matrix&, const int64_t*, const In*, const Out*, int64_t, float*, Stream);
INSTANTIATE(float, float)
INSTANTIATE(BFloat16, BFloat16)
INSTANTIATE(BFloat16, float)
INSTANTIATE(float, BFloat16)

}  // namespace gnnscale::gpu
