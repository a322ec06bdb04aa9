// Neighbour sampling of several layers, with relabelling.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit):
// - The graph is CSC: the in-edges of node v stand at positions indptr[v] .. indptr[v + 1], their sources in
//   `indices`.
// - Hop h draws in-edges of every node known so far. `nodes` starts with the seeds, then each hop's new nodes
//   in the order of their first appearance among the hop's edges, so that the destinations and the sources of
//   every hop are prefixes of it.
// - Fan-out -1 takes all in-edges. Fan-out k takes all where there are at most k, else k distinct ones by
//   Floyd's algorithm (Bentley and Floyd, CACM 1987); with replacement, k draws wherever there is an edge.
// - Draw j of node v in hop h uses the random word fold(fold(fold(key, h), v), j).
// - Local ids are 32-bit in a hop unless the graph's nodes or the hop's edges outnumber `narrow_limit`.
// Throws std::invalid_argument on a repeated seed and on a structure that is no CSC of `num_nodes` nodes.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "buffer.h"

namespace gnnscale {

template <class Index>
struct Csc {
    const int64_t* indptr;
    const Index* indices;
    int64_t num_nodes;
    int64_t num_edges;
};

using LocalIds = std::variant<Buffer<int32_t>, Buffer<int64_t>>;

struct Hop {
    LocalIds indptr;
    LocalIds indices;
    Buffer<int64_t> positions;
};

struct Sample {
    Buffer<int64_t> nodes;
    std::vector<Hop> hops;
};

struct Drawing {
    uint64_t key;
    bool replace;
    int num_threads;
    int64_t narrow_limit;
};

template <class Index>
Sample sample_neighbors(const Csc<Index>& graph, const int64_t* seeds, int64_t num_seeds,
                        const std::vector<int64_t>& fanouts, const Drawing& drawing);

}  // namespace gnnscale
