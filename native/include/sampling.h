// Sampling of in-edges node by node, several layers, with relabelling.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit):
// - The graph is CSC: the in-edges of node v stand at positions indptr[v] .. indptr[v + 1], their sources in
//   `indices`, and their weights, where it has any, in `weight`.
// - Hop h draws in-edges of every node known so far. `nodes` starts with the seeds, then each hop's new nodes
//   in the order of their first appearance among the hop's edges, so that the destinations and the sources of
//   every hop are prefixes of it.
// - What is drawn is a rule's matter (rules.h); fan-out -1 takes all in-edges, without importance.
// - Local ids are 32-bit in a hop unless the graph's nodes or the hop's edges outnumber `narrow_limit`.
// - Where the graph has more nodes than `dense_nodes`, the map of ids is hashed. That changes the time alone.
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
    Buffer<float> importance{};  // empty where all are taken
};

struct Sample {
    Buffer<int64_t> nodes;
    std::vector<Hop> hops;
};

struct Drawing {
    uint64_t key;
    int num_threads;
    int64_t narrow_limit;
    int64_t dense_nodes;
};

// A fixed number of edges a node: all alike without `weight`, else in proportion to it.
template <class Index>
Sample sample_neighbors(const Csc<Index>& graph, const float* weight, const int64_t* seeds, int64_t num_seeds,
                        const std::vector<int64_t>& fanouts, bool replace, const Drawing& drawing);

// LABOR; `iterations` is -1 for convergence, and `shared` says whether all hops have one random number a source.
template <class Index>
Sample sample_labor(const Csc<Index>& graph, const int64_t* seeds, int64_t num_seeds,
                    const std::vector<int64_t>& fanouts, int64_t iterations, bool shared, const Drawing& drawing);

}  // namespace gnnscale
