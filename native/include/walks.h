// Random walks along in-edges.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit):
// - A step from v draws one of its in-edges: the bounded(word, degree)-th of them, or, where `sums` is given, the one
//   in which low + uniform(word) * (high - low) falls, `sums[e]` being the weight of all edges before e, low and high
//   those at the ends of v's row. There is no step where v has no in-edge, or all weigh nothing.
// - Walk w uses the words fold(fold(key, w), c). Step t of `random_walks` has c = 2 t, and the word of 2 t + 1 decides
//   whether the walk ends after it; in `walk_ends` 2 t decides before step t, which has 2 t + 1.
// Throws std::invalid_argument on a source that is no node.
#pragma once

#include <cstdint>

#include "sampling.h"

namespace gnnscale {

struct Walks {
    const double* sums;  // (num_edges + 1,), or null for uniform steps
    const int64_t* starts;
    int64_t count;
    uint64_t key;
    double stop;
    int num_threads;
};

// `out` is (count, length + 1): the start, then the node after each step, -1 once a walk has ended.
template <class Index>
void random_walks(const Csc<Index>& graph, const Walks& walks, int64_t length, int64_t* out);

// `out` is (count,): where walks end that stop before each step with probability `stop`, or where no step leads on.
template <class Index>
void walk_ends(const Csc<Index>& graph, const Walks& walks, int64_t* out);

}  // namespace gnnscale
