// Which in-edges of a node are drawn.
//
// Contract (gnnscale/ops/reference/rules.py computes the same, bit for bit). `state` is fold(key, hop).
// - All: every edge.
// - Uniform: all where there are at most k, else k distinct ones by Floyd's algorithm (Bentley and Floyd, CACM 1987);
//   with replacement, k draws wherever there is an edge. Draw j of node v uses the word fold(fold(state, v), j).
//   The importance is float(d) / float(drawn).
// - By weight, with replacement: k draws wherever an edge weighs anything. With S_i the sum of the row's first i
//   weights, added up in double in their order, draw j takes the first edge with S_(i+1) > uniform(word) S_d, and the
//   last one that weighs anything where rounding leaves none. The importance is S_d / (k w).
// - By priority: of the row's edges that weigh anything, the k with the largest w / (1 - uniform(fold(state, e))), e
//   being the edge's position; of equal ones the earlier. They keep their order. With t the next largest, 0 if there
//   is none, the importance is max(1, t / w).
// - LABOR: u -> v where uniform(fold(state, u)) < p. LABOR-0: p = k / d where d > k, else 1. LABOR-i: see labor.cpp, whose
//   sums over a row are in strands (ordered_sums.h, by the edge's number in its row), and over all sources in blocks.
//   The importance is 1 / p.
// Weights that are read have to be finite and not negative; std::invalid_argument says which one is not.
// All but Uniform's is computed in double and rounded to float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "node_set.h"
#include "sampling.h"
#include "team.h"

namespace gnnscale {

// Rows in a block.
constexpr int64_t kBlock = 128;

// The destinations of a hop.
struct Frontier {
    const int64_t* nodes;
    const Row* rows;
    int64_t size;
    const void* indices;
    int index_bytes;

    // Asks for the source of an edge, which will be read.
    void prefetch(int64_t position) const {
        __builtin_prefetch(static_cast<const std::byte*>(indices) + position * index_bytes);
    }
};

// A hop first asks for the number of edges of all rows, block by block, then for the edges themselves; several threads
// have different blocks at the same time.
class Rule {
  public:
    virtual ~Rule() = default;

    // What has to be known of all rows before.
    virtual void prepare(const Frontier&, Team&) {}

    // counts[i] for the rows i in [begin, end).
    virtual void count(const Frontier&, int64_t begin, int64_t end, int64_t* counts) = 0;

    // Row i's edges at offsets[i] of both arrays; their sources are asked for.
    virtual void draw(const Frontier&, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
                      float* importance) = 0;
};

std::unique_ptr<Rule> take_all();
std::unique_ptr<Rule> draw_alike(int64_t fanout, bool replace, uint64_t state);
std::unique_ptr<Rule> draw_by_weight(const float* weight, int64_t fanout, bool replace, uint64_t state);

template <class Index>
std::unique_ptr<Rule> draw_labor(const Csc<Index>& graph, int64_t fanout, int64_t iterations, uint64_t state,
                                 const Drawing& drawing);

}  // namespace gnnscale
