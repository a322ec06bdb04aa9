#include "sampling.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "node_set.h"
#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

constexpr int64_t kEdgesPerThread = 16384;
// Up to this many draws a search among them is faster than a bitmap over the neighbours.
constexpr int64_t kLinearSearch = 64;

// k distinct positions of the row's edges: for each j of the last k, a random one of the first j + 1, or j
// itself if that one is taken.
void draw_distinct(Row row, int64_t k, uint64_t state, int64_t* positions) {
    std::vector<bool> taken(k > kLinearSearch ? row.degree : 0);
    for (int64_t i = 0; i < k; ++i) {
        const int64_t last = row.degree - k + i;
        int64_t drawn = bounded(fold(state, i), last + 1);
        if (taken.empty()) {
            bool met = false;
            for (int64_t j = 0; j < i; ++j) met |= positions[j] == row.start + drawn;
            if (met) drawn = last;
        } else {
            if (taken[drawn]) drawn = last;
            taken[drawn] = true;
        }
        positions[i] = row.start + drawn;
    }
}

void draw_positions(Row row, int64_t fanout, bool replace, uint64_t state, int64_t* positions) {
    if (fanout < 0 || (!replace && row.degree <= fanout)) {
        std::iota(positions, positions + row.degree, row.start);
    } else if (!replace) {
        draw_distinct(row, fanout, state, positions);
    } else if (row.degree > 0) {
        for (int64_t j = 0; j < fanout; ++j) positions[j] = row.start + bounded(fold(state, j), row.degree);
    }
}

int64_t num_drawn(int64_t degree, int64_t fanout, bool replace) {
    if (fanout < 0) return degree;
    if (replace) return degree > 0 ? fanout : 0;
    return std::min(degree, fanout);
}

template <class Index, class Local>
class Sampler {
  public:
    Sampler(const Csc<Index>& graph, const Drawing& drawing)
        : graph_(graph), drawing_(drawing), nodes_(graph.num_nodes) {}

    Sample run(const int64_t* seeds, int64_t num_seeds, const std::vector<int64_t>& fanouts) {
        Sample sample;
        nodes_.add_seeds(seeds, num_seeds);
        for (size_t h = 0; h < fanouts.size(); ++h) {
            find_rows(fanouts[h]);
            const int64_t num_edges = nodes_.workspace().offsets[nodes_.size()];
            const uint64_t state = fold(drawing_.key, h);
            const bool narrow = std::max(num_edges, graph_.num_nodes) <= drawing_.narrow_limit;
            sample.hops.push_back(narrow ? draw<int32_t>(fanouts[h], state)
                                         : draw<int64_t>(fanouts[h], state));
        }
        sample.nodes = nodes_.copy();
        return sample;
    }

  private:
    // Where every destination's edges stand, and the offsets of those to be drawn.
    void find_rows(int64_t fanout) {
        const int64_t count = nodes_.size();
        auto& [local_id, rows, offsets] = nodes_.workspace();
        if (static_cast<int64_t>(rows.size()) < count) rows.resize(count);
        if (static_cast<int64_t>(offsets.size()) < count + 1) offsets.resize(count + 1);
        offsets[0] = 0;
        run_ranges(
            count, parts_for(count, kEdgesPerThread, drawing_.num_threads), [&](int64_t begin, int64_t end) {
                const int64_t* nodes = nodes_.data();
                for (int64_t i = begin; i < end; ++i) {
                    if (i + kAhead < end) __builtin_prefetch(graph_.indptr + nodes[i + kAhead]);
                    const int64_t start = graph_.indptr[nodes[i]], stop = graph_.indptr[nodes[i] + 1];
                    if (start < 0 || stop < start || stop > graph_.num_edges)
                        throw std::invalid_argument(
                            "indptr is no CSC pointer array: the edges of node " + std::to_string(nodes[i]) +
                            " would stand from " + std::to_string(start) + " to " + std::to_string(stop) +
                            ", where indices has " + std::to_string(graph_.num_edges) + ".");
                    rows[i] = {start, stop - start};
                    offsets[i + 1] = num_drawn(stop - start, fanout, drawing_.replace);
                }
            });
        std::partial_sum(offsets.begin(), offsets.begin() + count + 1, offsets.begin());
    }

    template <class Id>
    Hop draw(int64_t fanout, uint64_t state) {
        const int64_t count = nodes_.size();
        const Workspace<Local>& workspace = nodes_.workspace();
        const int64_t* offsets = workspace.offsets.data();
        const int64_t num_edges = offsets[count];
        Buffer<Id> indptr(count + 1), ids(num_edges);
        Buffer<int64_t> positions(num_edges);
        run_rows(offsets, count, parts_for(num_edges, kEdgesPerThread, drawing_.num_threads),
                 [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i)
                         draw_positions(workspace.rows[i], fanout, drawing_.replace,
                                        fold(state, nodes_.data()[i]), positions.data() + offsets[i]);
                     read_sources(positions.data(), ids.data(), offsets[begin], offsets[end]);
                 });
        std::copy_n(offsets, count + 1, indptr.data());
        nodes_.relabel(ids.data(), num_edges);
        return {std::move(indptr), std::move(ids), std::move(positions)};
    }

    template <class Id>
    void read_sources(const int64_t* positions, Id* ids, int64_t begin, int64_t end) const {
        for (int64_t e = begin; e < end; ++e) {
            if (e + kAhead < end) __builtin_prefetch(graph_.indices + positions[e + kAhead]);
            const int64_t node = graph_.indices[positions[e]];
            if (node < 0 || node >= graph_.num_nodes)
                throw std::invalid_argument("indices[" + std::to_string(positions[e]) + "] is " +
                                            std::to_string(node) + "; node ids of this graph are 0 to " +
                                            std::to_string(graph_.num_nodes - 1) + ".");
            ids[e] = static_cast<Id>(node);
        }
    }

    const Csc<Index>& graph_;
    const Drawing& drawing_;
    NodeSet<Local> nodes_;
};

}  // namespace

template <class Index>
Sample sample_neighbors(const Csc<Index>& graph, const int64_t* seeds, int64_t num_seeds,
                        const std::vector<int64_t>& fanouts, const Drawing& drawing) {
    if (graph.num_nodes <= drawing.narrow_limit)
        return Sampler<Index, int32_t>(graph, drawing).run(seeds, num_seeds, fanouts);
    return Sampler<Index, int64_t>(graph, drawing).run(seeds, num_seeds, fanouts);
}

template Sample sample_neighbors(const Csc<int32_t>&, const int64_t*, int64_t, const std::vector<int64_t>&,
                                 const Drawing&);
template Sample sample_neighbors(const Csc<int64_t>&, const int64_t*, int64_t, const std::vector<int64_t>&,
                                 const Drawing&);

}  // namespace gnnscale
