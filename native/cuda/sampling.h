// Steps of sampling, between which the caller adds up counts, sorts and selects (gnnscale/ops/gpu_sampling.py). They draw what
// the CPU draws (native/include/): random numbers are a function of counters, new nodes are numbered by where they stand
// first, and sums of doubles have the CPU's order.
#pragma once

#include <cstdint>
#include <vector>

#include "host_device.h"
#include "kernels.h"

namespace gnnscale::gpu {

// A graph on the device, or in pinned memory of the host.
struct Graph {
    const int64_t* indptr;
    Integers indices;
};

// What is drawn of each row: `fanout` edges, all where it is negative; `state` is fold(key, hop).
struct Draw {
    int64_t fanout;
    bool replace;
    uint64_t state;

    HOST_DEVICE int64_t count(int64_t degree) const {
        if (fanout < 0 || (!replace && degree < fanout)) return degree;
        return degree > 0 ? fanout : 0;
    }
};

// counts[i] = the edges drawn of nodes[i].
void count_edges(const Graph& graph, const Draw& draw, const int64_t* nodes, int64_t num_nodes, int64_t* counts,
                 Stream stream);

// Those of nodes[i] at offsets[i]: positions and, where given, importance.
void draw_edges(const Graph& graph, const Draw& draw, const int64_t* nodes, int64_t num_nodes,
                const int64_t* offsets, int64_t* positions, float* importance, Stream stream);

// `places` has a number for each node of the graph: where it stands in the sample, kNowhere if it does not. sources[e] is
// edge e's source; is_first[e] whether it is new, and no edge before has it. Of new nodes, `places` is written.
constexpr int32_t kNowhere = INT32_MAX;
void find_new(const Graph& graph, const int64_t* positions, int64_t num_edges, int32_t num_known, int32_t* places,
              int32_t* sources, int32_t* is_first, Stream stream);

// ranks[e] = how many of the edges up to e are first. Puts new nodes behind those known, and sources become places.
void number_new(int32_t num_known, const int32_t* is_first, const int32_t* ranks, int64_t num_edges,
                int32_t* places, int64_t* nodes, int32_t* sources, Stream stream);

// Room for what a hop may have at most: offsets one more than its rows, the first of which is 0.
struct HopArrays {
    int64_t most_rows, most_edges;
    int32_t *offsets, *sources;
    int64_t* positions;
    float* importance;
};
struct Hops {
    std::vector<Draw> draws;  // without a negative fan-out
    std::vector<HopArrays> arrays;
};

// All hops at once. `sizes` gets whether a seed is repeated or no node, the number of nodes at first and after each hop, and the number
// of each hop's edges.
void sample_alike(const Graph& graph, const Hops& hops, const int64_t* seeds, int64_t num_seeds, int64_t num_nodes,
                  int32_t* places, int64_t* nodes, int64_t* sizes, Allocator& memory, Stream stream);

// All in-edges of some nodes, one after the other: edge e is of row rows[e], and stands at e + shift[rows[e]].
struct InEdges {
    Integers indices;
    const int32_t* rows;
    const int64_t* shift;
    int64_t count;
};

// keep[e] = whether fold(state, source) >> 12 is less than the row's limit (LABOR-0), or the source has a place.
void mark_below(const InEdges& edges, uint64_t state, const int64_t* limits, uint8_t* keep, Stream stream);
void mark_members(const InEdges& edges, const int32_t* places, uint8_t* keep, Stream stream);

// The root of each row with more edges than `fanout`, of others the least pi, if there is one (labor.cpp). Row i's edges
// are offsets[i] .. offsets[i + 1]; sources are positions in `pi`.
void labor_roots(const int64_t* offsets, int64_t num_rows, const int32_t* sources, const double* pi, int64_t fanout,
                 double* y, Stream stream);

// sums[e] = the row's weights up to edge e, added up in their order.
void row_weight_sums(const float* weight, const int64_t* offsets, const int64_t* shift, int64_t num_rows, double* sums,
                     Stream stream);

// `fanout` draws with replacement of each row that weighs anything, in proportion to weights; those of row i at
// drawn_offsets[i].
struct WeighedRows {
    const float* weight;
    const int64_t *nodes, *offsets, *shift;
    int64_t count;
    const double* sums;
};
void draw_by_weight(const WeighedRows& rows, int64_t fanout, uint64_t state, const int64_t* drawn_offsets,
                    int64_t* positions, float* importance, Stream stream);

// out[i] = the values of segment i, offsets[i] .. offsets[i + 1], added up in their order; value e is values[order[e]]
// where `order` is given.
template <class Real>
void segment_sums(const int64_t* offsets, int64_t count, const int64_t* order, const Real* values, Real* out,
                  Stream stream);

// add_up_in_blocks of ordered_sums.h; `totals` has room for two numbers a block.
void cumulative_sums(const double* values, int64_t count, double* totals, double* out, Stream stream);

// See walks.h; `sums` has an element for each edge and one more, or is null.
struct Walking {
    Graph graph;
    const double* sums;
    const int64_t* starts;
    int64_t count;
    uint64_t key;
    double stop;
};
void random_walks(const Walking& walks, int64_t length, int64_t* out, Stream stream);
void walk_ends(const Walking& walks, int64_t* out, Stream stream);

// out[i] = values[index[i]], of words of 4 or 8 bytes.
template <class Word>
void take(const Word* values, const int64_t* index, int64_t count, Word* out, Stream stream);

}  // namespace gnnscale::gpu
