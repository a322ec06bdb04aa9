// Edges among given nodes, and lists of distinct nodes.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit):
// - `edges_between` finds the in-edges of each of `destinations`, in CSC order, that leave one of `sources`; the ids are
//   positions in `sources`, which are distinct. They are 32-bit unless the edges found outnumber `narrow_limit`.
// - `edges_from` finds the same edges for a layer, whose nodes are the destinations and after them those of `drawn` that an
//   edge leaves and that are no destinations, in their order: ids are positions among these. `origins` says which of
//   `drawn` each edge leaves, `places` where each of `drawn` stands in the layer, -1 where no edge leaves it. Here
//   `destinations` are distinct too.
// - `distinct_nodes` gives the distinct ones of `ids` in ascending order; -1 stands for nothing.
// - `append_nodes` gives `seeds`, which are distinct, followed by the other `ids` in the order of their first appearance,
//   and where each of `ids` stands among them.
// Throws std::invalid_argument on an id that is no node, a node twice where nodes are distinct, and a structure that is no
// CSC of `num_nodes` nodes.
#pragma once

#include <cstdint>
#include <utility>

#include "sampling.h"

namespace gnnscale {

struct Nodes {
    const int64_t* ids;
    int64_t count;
};

template <class Index>
Hop edges_between(const Csc<Index>& graph, Nodes destinations, Nodes sources, int num_threads, int64_t narrow_limit);

struct LayerEdges {
    Buffer<int64_t> nodes;
    Hop hop;
    LocalIds origins;
    Buffer<int32_t> places;
};

template <class Index>
LayerEdges edges_from(const Csc<Index>& graph, Nodes destinations, Nodes drawn, int num_threads, int64_t narrow_limit);

Buffer<int64_t> distinct_nodes(Nodes ids, int64_t num_nodes);

std::pair<Buffer<int64_t>, Buffer<int32_t>> append_nodes(Nodes seeds, Nodes ids, int64_t num_nodes);

}  // namespace gnnscale
