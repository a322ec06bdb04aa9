// Layer-wise sampling: how likely each source of a layer is, and distinct ones drawn accordingly.
//
// Contract (gnnscale/ops/reference/ and a GPU compute the same, bit for bit: sums are added up in the order that is given,
// and no function but + - * / is used):
// - `cumulative_sums` are added up in blocks (ordered_sums.h), and so are the cumulative chances of `draw_in_succession`.
// - `column_sums`: `sources` are those of the in-edges of `destinations`, each once, in the order of first appearance
//   (rows in order, edges in CSC order). `sums` holds Σ rows[v] * (weight[e] * weight[e]) over the edges e of each source
//   u, in that order, times columns[u]. Null arrays stand for ones.
// - `draw_in_succession` draws up to `size` positions one after the other, each in proportion to its chance among those
//   still there: draws with replacement, of which those that were drawn already do not count. In round r, with m of `size`
//   drawn, there are up to 2 (size - m) + 32 draws: draw i takes the first of the positions not drawn in earlier rounds
//   whose cumulative chance exceeds uniform(fold(fold(key, r), i)) * total, or the last. Where there are no more than
//   `size` positions with a chance, all of them come, in ascending order.
// - `draw_with_replacement` makes `size` draws: draw i takes the first position whose cumulative chance exceeds
//   uniform(fold(key, i)) * total, or, where rounding leads to the total, the last that has a chance. The positions drawn
//   come once, in ascending order, with how often each was. Nothing is drawn where the total is 0. A `guide` holds, for
//   j = 0 .. buckets, the first position whose cumulative chance exceeds (j / buckets) * total (Chen and Asau 1974): it
//   saves most of the search, and any other numbers in its place cost time alone.
// - `fill_rows` scales the values of each row so that Σ values[e] * weight[e] over its edges, in their order, becomes its
//   total; by 0 where the sum is not above 0.
// Throws std::invalid_argument on a node that is none, a structure that is no CSC, and a chance that is negative or not
// finite.
#pragma once

#include <cstdint>

#include "subgraph.h"

namespace gnnscale {

struct Factors {
    const double* rows;     // (num_nodes,) or null
    const double* columns;  // (num_nodes,) or null
    const float* weight;    // (num_edges,) or null
};

struct Columns {
    Buffer<int64_t> sources;
    Buffer<double> sums;
};

template <class Index>
Columns column_sums(const Csc<Index>& graph, Nodes destinations, const Factors& factors, int num_threads);

struct Counted {
    Buffer<int64_t> positions;
    Buffer<int64_t> counts;
};

struct Cumulative {
    const double* sums;
    int64_t count;
    const int64_t* guide;  // (buckets + 1,) or null
    int64_t buckets;
};

Counted draw_with_replacement(const Cumulative& chances, int64_t size, uint64_t key);

Buffer<double> cumulative_sums(const double* values, int64_t count);

Buffer<int64_t> draw_in_succession(const double* chance, int64_t count, int64_t size, uint64_t key);

// The edges of a layer by destination.
template <class Id>
struct Rows {
    const Id* indptr;  // (count + 1,)
    int64_t count;
    int64_t num_edges;
};

// `values` and `weight` are (num_edges,), `weight` or null for ones; `totals` (count,).
template <class Id>
Buffer<double> fill_rows(const Rows<Id>& rows, const double* values, const float* weight, const float* totals);

}  // namespace gnnscale
