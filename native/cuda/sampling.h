// Steps of neighbour sampling (native/include/sampling.h), between which the caller adds up counts and flags. They draw
// what the CPU draws: the random numbers are a function of counters, and new nodes are numbered by where they stand first.
#pragma once

#include <cstdint>

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

}  // namespace gnnscale::gpu
