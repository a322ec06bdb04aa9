// Softmax attention. A softmax is added up as it goes along (Milakov and Gimelshein 2018): a state has the largest score
// so far, and sums in which that score counts as 0; of two states the larger score decides.
#include <cmath>

#include "kernels.h"

namespace gnnscale::gpu {
namespace {

// How lanes read a row: `head_lanes` for each head, as many heads side by side as fit, and if they do not reach a head's
// end, a tile for each part of its columns.
template <int N>
struct Heads {
    Shape shape;
    int head_lanes;
    int64_t parts, heads, columns;

    static Heads of(int64_t heads, int64_t columns) {
        const int head_lanes = lanes_for(columns, N);
        int side_by_side = 1;
        while (head_lanes * side_by_side < kLanes && side_by_side < heads) side_by_side *= 2;
        const int64_t part = static_cast<int64_t>(head_lanes) * N;
        const int64_t parts = (columns + part - 1) / part;
        return {{head_lanes * side_by_side, (heads + side_by_side - 1) / side_by_side * parts, head_lanes},
                head_lanes, parts, heads, columns};
    }

    DEVICE int64_t head(int64_t tile, int lane) const {
        return tile / parts * (shape.group / head_lanes) + lane / head_lanes;
    }
    // Within the head.
    DEVICE int64_t column(int64_t tile, int lane) const {
        return (tile % parts * head_lanes + lane % head_lanes) * N;
    }
    // Whether it is for this lane to write what there is once a head.
    DEVICE bool speaks(int64_t tile, int lane) const { return tile % parts == 0 && lane % head_lanes == 0; }
};

constexpr float kNone = -INFINITY;

DEVICE float leaky(float x, float slope) { return x < 0 ? slope * x : x; }

template <class Real>
DEVICE float more(const Attention<Real>& a, int64_t id) {
    return a.log_multiplicity ? read(a.log_multiplicity + id) : 0.0f;
}

template <class Real, int N>
struct Attend {
    static constexpr bool kProbes = false;
    struct State {
        float largest = kNone, total = 0, share = 0;
        float sums[N] = {}, positive[N] = {};
    };
    struct Row {
        int64_t row;
        float target;
    };
    struct Loaded {
        float score, more, mask;
        Pack<Real, N> pack;
    };

    Shape shape;
    Heads<N> layout;
    Attention<Real> a;
    Attended<Real> result;

    DEVICE bool has_own(int64_t row) const { return row < a.num_own; }

    DEVICE Row open(int64_t row, int64_t tile, int lane) const {
        const int64_t head = layout.head(tile, lane);
        return {row, a.target && head < a.heads ? read(a.target + row * a.heads + head) : 0.0f};
    }

    DEVICE Loaded load(const Row& row, int64_t edge, int64_t tile, int lane) const {
        const int64_t head = layout.head(tile, lane), column = layout.column(tile, lane);
        if (head >= a.heads) return {};
        const bool own = edge == kOwn;
        const int64_t col = own ? row.row : a.matrix.indices[edge];
        const int64_t id = own ? a.matrix.rows.num_edges + row.row : edge;
        Loaded loaded = {read(a.scores ? a.scores + id * a.heads + head : a.source + col * a.heads + head),
                         own ? 0.0f : more(a, id),
                         a.mask ? read(a.mask + id * a.heads + head) : 1.0f,
                         {}};
        if (column < a.columns)
            loaded.pack = read_pack<N>(a.x + (col * a.heads + head) * a.columns + column);
        return loaded;
    }

    DEVICE void add(State& state, const Row& row, const Loaded& loaded, int64_t, int) const {
        const float raw = loaded.score + row.target;
        const float score = (a.scores ? raw : leaky(raw, a.slope)) + loaded.more;
        if (score == kNone) return;
        if (score > state.largest) {
            scale(state, expf(state.largest - score));
            state.largest = score;
        }
        const float weight = expf(score - state.largest), factor = weight * loaded.mask;
        const bool above = !a.scores && raw > 0;
        state.total += weight;
        if (above) state.share += weight;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float part = factor * widen(loaded.pack.values[i]);
            state.sums[i] += part;
            if (above) state.positive[i] += part;
        }
    }

    DEVICE void scale(State& state, float factor) const {
        state.total *= factor;
        state.share *= factor;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            state.sums[i] *= factor;
            state.positive[i] *= factor;
        }
    }

    DEVICE void merge(State& state, State other) const {
        const float largest = other.largest > state.largest ? other.largest : state.largest;
        if (largest > kNone) {
            scale(state, expf(state.largest - largest));
            scale(other, expf(other.largest - largest));
            state.largest = largest;
        }
        state.total += other.total;
        state.share += other.share;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            state.sums[i] += other.sums[i];
            state.positive[i] += other.positive[i];
        }
    }

    DEVICE void finish(State state, const Row&, int64_t row, int64_t tile, int lane) const {
        const int64_t head = layout.head(tile, lane), column = layout.column(tile, lane);
        if (head >= a.heads) return;
        const float total = state.total == 0 ? 1.0f : state.total;
        scale(state, 1 / total);
        const int64_t place = row * a.heads + head;
        if (layout.speaks(tile, lane)) {
            result.log_sum[place] = (state.largest == kNone ? 0.0f : state.largest) + logf(total);
            if (result.share) result.share[place] = state.share;
        }
        if (column >= a.columns) return;
        Pack<Real, N> sums, positive;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            narrow(state.sums[i], sums.values[i]);
            narrow(state.positive[i], positive.values[i]);
        }
        write_pack(sums, result.out + place * a.columns + column);
        if (result.positive) write_pack(positive, result.positive + place * a.columns + column);
    }
};

// Rows are the sources, edges lead to destinations.
template <class Real, int N>
struct AttendBackward {
    static constexpr bool kProbes = true;
    struct State {
        float of_source = 0;
        float of_x[N] = {};
    };
    struct Row {
        int64_t row;
        float source;
    };
    struct Loaded {
        float probe;  // this lane's part of <grad[v], x[u]> of the head
        float score, more, mask, log_sum, along;
        int64_t id;
        Pack<Real, N> grad;
    };

    Shape shape;
    Heads<N> layout;
    AttentionBackward<Real> b;

    DEVICE bool has_own(int64_t row) const { return row < b.attention.num_own; }

    DEVICE Row open(int64_t row, int64_t tile, int lane) const {
        const int64_t head = layout.head(tile, lane);
        const bool has = b.attention.source && head < b.attention.heads;
        return {row, has ? read(b.attention.source + row * b.attention.heads + head) : 0.0f};
    }

    DEVICE Loaded load(const Row& row, int64_t edge, int64_t tile, int lane) const {
        const Attention<Real>& a = b.attention;
        const int64_t head = layout.head(tile, lane), column = layout.column(tile, lane);
        if (head >= a.heads) return {};
        const bool own = edge == kOwn;
        const int64_t place = (own ? row.row : a.matrix.indices[edge]) * a.heads + head;
        const int64_t id = own ? a.matrix.rows.num_edges + row.row : read(b.permutation + edge);
        Loaded loaded = {0,
                         read(a.scores ? a.scores + id * a.heads + head : a.target + place),
                         own ? 0.0f : more(a, id),
                         a.mask ? read(a.mask + id * a.heads + head) : 1.0f,
                         read(b.log_sum + place),
                         read(b.along + place),
                         id,
                         {}};
        if (column < a.columns) loaded.grad = read_pack<N>(b.grad + place * a.columns + column);
        // All of the head, even where its columns are in several tiles.
        const Real* grad = b.grad + place * a.columns;
        const Real* x = a.x + (row.row * a.heads + head) * a.columns;
        for (int64_t c = lane % layout.head_lanes * N; c < a.columns; c += layout.head_lanes * N) {
            const Pack<Real, N> left = read_pack<N>(grad + c), right = read_pack<N>(x + c);
#pragma unroll
            for (int i = 0; i < N; ++i) loaded.probe += widen(left.values[i]) * widen(right.values[i]);
        }
        return loaded;
    }

    DEVICE void add(State& state, const Row& row, const Loaded& loaded, int64_t tile, int lane) const {
        const Attention<Real>& a = b.attention;
        const int64_t head = layout.head(tile, lane);
        if (head >= a.heads) return;
        const float raw = loaded.score + row.source;
        const float score = (a.scores ? raw : leaky(raw, a.slope)) + loaded.more;
        const float weight = expf(score - loaded.log_sum);
        const float of_score = weight * (loaded.mask * loaded.probe - loaded.along);
        if (a.scores) {
            if (layout.speaks(tile, lane)) b.of_scores[loaded.id * a.heads + head] = of_score;
        } else {
            state.of_source += raw > 0 ? of_score : a.slope * of_score;
        }
        const float factor = weight * loaded.mask;
#pragma unroll
        for (int i = 0; i < N; ++i) state.of_x[i] += factor * widen(loaded.grad.values[i]);
    }

    DEVICE void merge(State& state, const State& other) const {
        state.of_source += other.of_source;
#pragma unroll
        for (int i = 0; i < N; ++i) state.of_x[i] += other.of_x[i];
    }

    DEVICE void finish(const State& state, const Row&, int64_t row, int64_t tile, int lane) const {
        const Attention<Real>& a = b.attention;
        const int64_t head = layout.head(tile, lane), column = layout.column(tile, lane);
        if (head >= a.heads) return;
        if (b.of_source && layout.speaks(tile, lane)) b.of_source[row * a.heads + head] = state.of_source;
        if (column >= a.columns) return;
        Pack<Real, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) narrow(state.of_x[i], pack.values[i]);
        write_pack(pack, b.of_x + (row * a.heads + head) * a.columns + column);
    }
};

}  // namespace

template <class Real>
void attend(const Attention<Real>& a, const Attended<Real>& result, Allocator& memory, Stream stream) {
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        const auto layout = Heads<N>::of(a.heads, a.columns);
        reduce_rows(Attend<Real, N>{layout.shape, layout, a, result}, a.matrix.rows, memory, stream);
    };
    constexpr int N = kPack<Real>;
    if (fits_packs(a.x, a.columns, N) && fits_packs(result.out, a.columns, N) &&
        fits_packs(result.positive, a.columns, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

template <class Real>
void attend_backward(const AttentionBackward<Real>& b, Allocator& memory, Stream stream) {
    const Attention<Real>& a = b.attention;
    const auto with = [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        const auto layout = Heads<N>::of(a.heads, a.columns);
        reduce_rows(AttendBackward<Real, N>{layout.shape, layout, b}, a.matrix.rows, memory, stream);
    };
    constexpr int N = kPack<Real>;
    if (fits_packs(a.x, a.columns, N) && fits_packs(b.grad, a.columns, N) && fits_packs(b.of_x, a.columns, N))
        with(std::integral_constant<int, N>());
    else
        with(std::integral_constant<int, 1>());
}

#define INSTANTIATE(Real)                                                                    \
    template void attend(const Attention<Real>&, const Attended<Real>&, Allocator&, Stream); \
    template void attend_backward(const AttentionBackward<Real>&, Allocator&, Stream);
INSTANTIATE(float)
INSTANTIATE(BFloat16)

}  // namespace gnnscale::gpu
