// All hops of neighbour sampling without a word from the host: it knows only how much there can be at most, and how much
// there is stands in `sizes`. Kernels are started for the most, and those of their warps that have nothing to do end.
#include <algorithm>

#include "draw_row.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

// What a warp adds up at once; the totals of tiles are added up by a single lane.
constexpr int64_t kTile = 1024;

DEVICE int64_t tiles(int64_t count) { return (count + kTile - 1) / kTile; }

// Calls work(i, lane) for the elements of a tile, 32 side by side.
template <class Work>
DEVICE void each_in_tile(int64_t tile, int64_t count, const Work& work) {
    for (int64_t first = tile * kTile; first < (tile + 1) * kTile && first < count; first += kLanes) work(first);
}

// totals[tile] = the sum of counter(i) over a tile of *size elements.
template <class Counter>
struct AddTile {
    Counter counter;
    const int64_t* size;
    int64_t* totals;

    DEVICE void operator()(int64_t tile) const {
        const int64_t count = *size;
        if (tile * kTile >= count) return;
        PerLane<int64_t> sum;
        each_lane([&](int lane) { sum[lane] = 0; });
        each_in_tile(tile, count, [&](int64_t first) {
            each_lane([&](int lane) {
                if (first + lane < count) sum[lane] += counter(first + lane);
            });
        });
        add_up(sum, kLanes);
        each_lane([&](int lane) {
            if (lane == 0) totals[tile] = sum[lane];
        });
    }
};

// befores[tile] = what the tiles before it hold, *all = what all do and `more`.
struct AddTotals {
    const int64_t *size, *totals, *more;
    int64_t *befores, *all;

    DEVICE void operator()(int64_t) const {
        const int64_t count = tiles(*size);
        int64_t sum = 0;
#pragma unroll 8
        for (int64_t tile = 0; tile < count; ++tile) {
            befores[tile] = sum;
            sum += read(totals + tile);
        }
        *all = sum + (more ? *more : 0);
    }
};

// take(i, counter(i), sum of those before) for the elements of a tile.
template <class Counter, class Take>
struct TakeTile {
    Counter counter;
    Take take;
    const int64_t *size, *befores;

    DEVICE void operator()(int64_t tile) const {
        const int64_t count = *size;
        if (tile * kTile >= count) return;
        int64_t before = befores[tile];
        each_in_tile(tile, count, [&](int64_t first) {
            PerLane<int64_t> mine, upto;
            each_lane([&](int lane) { upto[lane] = mine[lane] = first + lane < count ? counter(first + lane) : 0; });
            running_sum(upto);
            each_lane([&](int lane) {
                if (first + lane < count) take(first + lane, mine[lane], before + upto[lane] - mine[lane]);
            });
            before += last_lane(upto);
        });
    }
};

// Adds up counter(i) over *size elements, at most `most`: gives each its place, and puts *all = sum + *more.
template <class Counter, class Take>
void number(const Counter& counter, const Take& take, int64_t most, const int64_t* size, const int64_t* more,
            int64_t* all, int64_t* scratch, Stream stream) {
    const int64_t count = (most + kTile - 1) / kTile;
    launch(AddTile<Counter>{counter, size, scratch}, count, stream);
    for_each(AddTotals{size, scratch, more, scratch + count, all}, 1, stream);
    launch(TakeTile<Counter, Take>{counter, take, size, scratch + count}, count, stream);
}

// A lane for each of the first *size of at most so many.
template <class Work>
struct EachOf {
    Work work;
    const int64_t* size;

    DEVICE void operator()(int64_t i) const {
        if (i < *size) work(i);
    }
};

struct Begin {
    int64_t num_seeds, *sizes;

    DEVICE void operator()(int64_t) const {
        sizes[0] = 0;
        sizes[1] = num_seeds;
    }
};

// What is no node becomes the first one, which is a wrong sample, but of the graph.
struct PlaceSeed {
    const int64_t* seeds;
    int64_t num_nodes;
    int32_t* places;
    int64_t* nodes;

    DEVICE void operator()(int64_t i) const {
        const bool there = static_cast<uint64_t>(seeds[i]) < static_cast<uint64_t>(num_nodes);
        nodes[i] = there ? seeds[i] : 0;
        lower(places + nodes[i], static_cast<int32_t>(i));
    }
};

struct CheckSeed {
    const int64_t *seeds, *nodes;
    const int32_t* places;
    int64_t* wrong;

    DEVICE void operator()(int64_t i) const {
        if (nodes[i] != seeds[i] || places[nodes[i]] != static_cast<int32_t>(i)) *wrong = 1;
    }
};

struct Edges {
    Graph graph;
    Draw draw;
    const int64_t* nodes;

    DEVICE int64_t operator()(int64_t row) const {
        const int64_t node = nodes[row];
        return draw.count(read(graph.indptr + node + 1) - read(graph.indptr + node));
    }
};

struct Offset {
    int32_t* offsets;

    DEVICE void operator()(int64_t row, int64_t count, int64_t before) const {
        offsets[row + 1] = static_cast<int32_t>(before + count);
    }
};

// A warp a row: draws its edges, and gives their sources the places of the first edge that leads there.
struct DrawAndFind {
    Graph graph;
    Draw draw;
    const int64_t *nodes, *num_known;
    HopArrays hop;
    int32_t* places;

    DEVICE void operator()(int64_t row) const {
        const int64_t known = *num_known;
        if (row >= known) return;
        const int64_t first = hop.offsets[row];
        draw_row(graph, draw, nodes[row], hop.positions + first, hop.importance + first);
        const int64_t drawn = hop.offsets[row + 1] - first;
        meet();
        each_lane([&](int lane) {
            for (int64_t e = first + lane; e < first + drawn; e += kLanes) {
                const int64_t source = graph.indices[hop.positions[e]];
                hop.sources[e] = static_cast<int32_t>(source);
                lower(places + source, static_cast<int32_t>(known + e));
            }
        });
    }
};

struct IsFirst {
    const int64_t* num_known;
    const int32_t *places, *sources;

    DEVICE int64_t operator()(int64_t e) const {
        return places[sources[e]] == static_cast<int32_t>(*num_known + e);
    }
};

// While new nodes get their places, edges that are not the first to them go on to see that: a place is never larger than
// the first edge's number, and theirs is.
struct Append {
    const int64_t* num_known;
    const int32_t* sources;
    int32_t* places;
    int64_t* nodes;

    DEVICE void operator()(int64_t e, int64_t is_first, int64_t before) const {
        if (!is_first) return;
        const int64_t place = *num_known + before;
        nodes[place] = sources[e];
        places[sources[e]] = static_cast<int32_t>(place);
    }
};

struct RelabelAll {
    const int32_t* places;
    int32_t* sources;

    DEVICE void operator()(int64_t e) const { sources[e] = places[sources[e]]; }
};

}  // namespace

void sample_alike(const Graph& graph, const Hops& hops, const int64_t* seeds, int64_t num_seeds, int64_t num_nodes,
                  int32_t* places, int64_t* nodes, int64_t* sizes, Allocator& memory, Stream stream) {
    int64_t most = 0;
    for (const HopArrays& hop : hops.arrays) most = std::max({most, hop.most_rows, hop.most_edges});
    auto* scratch = static_cast<int64_t*>(memory.take(2 * ((most + kTile - 1) / kTile + 1) * sizeof(int64_t)));
    // sizes: whether a seed is repeated or no node; the nodes known before each hop and after the last; the edges of each hop.
    int64_t *num_known = sizes + 1, *num_edges = num_known + hops.arrays.size() + 1;
    for_each(Begin{num_seeds, sizes}, 1, stream);
    for_each(PlaceSeed{seeds, num_nodes, places, nodes}, num_seeds, stream);
    for_each(CheckSeed{seeds, nodes, places, sizes}, num_seeds, stream);
    for (size_t h = 0; h < hops.arrays.size(); ++h) {
        const HopArrays& hop = hops.arrays[h];
        const Draw& draw = hops.draws[h];
        number(Edges{graph, draw, nodes}, Offset{hop.offsets}, hop.most_rows, num_known + h, nullptr, num_edges + h,
               scratch, stream);
        launch(DrawAndFind{graph, draw, nodes, num_known + h, hop, places}, hop.most_rows, stream);
        number(IsFirst{num_known + h, places, hop.sources}, Append{num_known + h, hop.sources, places, nodes},
               hop.most_edges, num_edges + h, num_known + h, num_known + h + 1, scratch, stream);
        for_each(EachOf<RelabelAll>{{places, hop.sources}, num_edges + h}, hop.most_edges, stream);
    }
}

}  // namespace gnnscale::gpu
