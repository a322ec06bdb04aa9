// Random walks, a lane each, and draws by weight; compiled without contraction of products and sums.
#include <cmath>

#include "random.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

// The first of `count` increasing numbers above a point, or `count`.
DEVICE int64_t first_above(const double* numbers, int64_t count, double point) {
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (read(numbers + middle) > point)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// The in-edge of a node that a word draws; -1 where none can be.
DEVICE int64_t draw(const Walking& walks, int64_t node, uint64_t word) {
    const int64_t begin = read(walks.graph.indptr + node), end = read(walks.graph.indptr + node + 1);
    if (begin == end) return -1;
    if (walks.sums == nullptr) return begin + bounded(word, end - begin);
    const double low = read(walks.sums + begin), high = read(walks.sums + end);
    if (!(high > low)) return -1;
    // See walks.cpp.
    const double point = low + uniform(word) * (high - low), last = nextafter(high, low);
    return begin + first_above(walks.sums + begin, end + 1 - begin, last < point ? last : point) - 1;
}

struct Walk {
    Walking walks;
    int64_t length;
    int64_t* out;

    DEVICE void operator()(int64_t w) const {
        const uint64_t state = fold(walks.key, static_cast<uint64_t>(w));
        int64_t* row = out + w * (length + 1);
        int64_t node = row[0] = walks.starts[w];
        for (int64_t t = 0; t < length; ++t) {
            if (node >= 0) {
                const int64_t edge = draw(walks, node, fold(state, 2 * t));
                node = edge < 0 ? -1 : walks.graph.indices[edge];
            }
            row[t + 1] = node;
            if (walks.stop > 0 && node >= 0 && uniform(fold(state, 2 * t + 1)) < walks.stop) node = -1;
        }
    }
};

struct WalkEnd {
    Walking walks;
    int64_t* out;

    DEVICE void operator()(int64_t w) const {
        const uint64_t state = fold(walks.key, static_cast<uint64_t>(w));
        int64_t node = walks.starts[w];
        for (uint64_t t = 0; !(uniform(fold(state, 2 * t)) < walks.stop); ++t) {
            const int64_t edge = draw(walks, node, fold(state, 2 * t + 1));
            if (edge < 0) break;
            node = walks.graph.indices[edge];
        }
        out[w] = node;
    }
};

// A warp a row, a lane a draw; rules.cpp has the method.
struct DrawByWeight {
    WeighedRows rows;
    int64_t fanout;
    uint64_t state;
    const int64_t* drawn_offsets;
    int64_t* positions;
    float* importance;

    DEVICE void operator()(int64_t row) const {
        const int64_t at = drawn_offsets[row], drawn = drawn_offsets[row + 1] - at;
        if (drawn == 0) return;
        const int64_t first = rows.offsets[row], degree = rows.offsets[row + 1] - first;
        const double* sums = rows.sums + first;
        const double sum = sums[degree - 1];
        const uint64_t of_row = fold(state, static_cast<uint64_t>(rows.nodes[row]));
        each_lane([&](int lane) {
            for (int64_t j = lane; j < drawn; j += kLanes) {
                int64_t edge = first_above(sums, degree, uniform(fold(of_row, j)) * sum);
                if (edge == degree) edge = first_at_least(sums, degree, sum);
                const int64_t position = first + edge + rows.shift[row];
                positions[at + j] = position;
                const double weight = static_cast<double>(read(rows.weight + position));
                importance[at + j] = static_cast<float>(sum / (static_cast<double>(fanout) * weight));
            }
        });
    }

  private:
    static DEVICE int64_t first_at_least(const double* numbers, int64_t count, double point) {
        int64_t low = 0, high = count;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (numbers[middle] >= point)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
};

}  // namespace

void random_walks(const Walking& walks, int64_t length, int64_t* out, Stream stream) {
    for_each(Walk{walks, length, out}, walks.count, stream);
}

void walk_ends(const Walking& walks, int64_t* out, Stream stream) {
    for_each(WalkEnd{walks, out}, walks.count, stream);
}

void draw_by_weight(const WeighedRows& rows, int64_t fanout, uint64_t state, const int64_t* drawn_offsets,
                    int64_t* positions, float* importance, Stream stream) {
    launch(DrawByWeight{rows, fanout, state, drawn_offsets, positions, importance}, rows.count, stream);
}

}  // namespace gnnscale::gpu
