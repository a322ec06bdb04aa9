#include "sampling.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>

#include "node_set.h"
#include "parallel.h"
#include "random.h"
#include "rules.h"
#include "team.h"

namespace gnnscale {
namespace {

constexpr int64_t kEdgesPerThread = 4096;

using MakeRule = std::function<std::unique_ptr<Rule>(size_t hop)>;

template <class Index, class Local>
class Sampler {
  public:
    Sampler(const Csc<Index>& graph, const Drawing& drawing)
        : graph_(graph),
          drawing_(drawing),
          nodes_(graph.num_nodes, drawing.dense_nodes),
          team_(drawing.num_threads) {}

    Sample run(const int64_t* seeds, int64_t num_seeds, const std::vector<int64_t>& fanouts,
               const MakeRule& make_rule) {
        Sample sample;
        nodes_.add_seeds(seeds, num_seeds);
        for (size_t h = 0; h < fanouts.size(); ++h) {
            find_rows();
            const auto rule = fanouts[h] < 0 ? take_all() : make_rule(h);
            count(*rule);
            const int64_t num_edges = offsets()[nodes_.size()];
            const bool narrow = std::max(num_edges, graph_.num_nodes) <= drawing_.narrow_limit;
            sample.hops.push_back(narrow ? draw<int32_t>(*rule, fanouts[h] >= 0)
                                         : draw<int64_t>(*rule, fanouts[h] >= 0));
        }
        sample.nodes = nodes_.take();
        return sample;
    }

  private:
    std::vector<Row>& rows() { return nodes_.workspace().rows; }
    std::vector<int64_t>& offsets() { return nodes_.workspace().offsets; }
    Frontier frontier() { return {nodes_.data(), rows().data(), nodes_.size(), graph_.indices, sizeof(Index)}; }

    int parts(int64_t work) const { return parts_for(work, kEdgesPerThread, drawing_.num_threads); }

    // Where the edges of the nodes that have come since stand.
    void find_rows() {
        const int64_t known = known_rows_, count = nodes_.size();
        if (static_cast<int64_t>(rows().size()) < count) rows().resize(count);
        const int64_t* nodes = nodes_.data();
        Row* rows = this->rows().data();
        team_.run(count - known, 4096, parts(count - known), [&](int64_t begin, int64_t end) {
            for (int64_t i = known + begin; i < known + end; ++i) {
                if (i + kAhead < known + end) __builtin_prefetch(graph_.indptr + nodes[i + kAhead]);
                const int64_t start = graph_.indptr[nodes[i]], stop = graph_.indptr[nodes[i] + 1];
                if (start < 0 || stop < start || stop > graph_.num_edges)
                    throw std::invalid_argument(
                        "indptr is no CSC pointer array: the edges of node " + std::to_string(nodes[i]) +
                        " would stand from " + std::to_string(start) + " to " + std::to_string(stop) +
                        ", where indices has " + std::to_string(graph_.num_edges) + ".");
                rows[i] = {start, stop - start};
            }
        });
        known_rows_ = count;
    }

    void count(Rule& rule) {
        const Frontier frontier = this->frontier();
        if (static_cast<int64_t>(offsets().size()) < frontier.size + 1) offsets().resize(frontier.size + 1);
        int64_t* offsets = this->offsets().data();
        rule.prepare(frontier, team_);
        offsets[0] = 0;
        team_.run(frontier.size, kBlock, parts(frontier.size * kBlock / 8), [&](int64_t begin, int64_t end) {
            rule.count(frontier, begin, end, offsets + 1);
        });
        std::partial_sum(offsets, offsets + frontier.size + 1, offsets);
    }

    // All threads draw blocks, and whichever is at it relabels those that are done, in their order. A thread leaves its
    // block while the memory brings what was asked for: the sources, and their places in the map.
    template <class Id>
    Hop draw(Rule& rule, bool has_importance) {
        const int64_t* offsets = this->offsets().data();
        const int64_t num_edges = offsets[nodes_.size()];
        nodes_.reserve(num_edges);  // which may move them
        const Frontier frontier = this->frontier();
        const int64_t blocks = (frontier.size + kBlock - 1) / kBlock;
        Buffer<Id> indptr(frontier.size + 1), ids(num_edges);
        Buffer<int64_t> positions(num_edges);
        Buffer<float> importance(has_importance ? num_edges : 0);
        InOrder relabelling(blocks);
        const auto relabel = [&](int64_t block) {
            const int64_t first = offsets[block * kBlock];
            nodes_.relabel_reserved(ids.data() + first,
                                    offsets[std::min((block + 1) * kBlock, frontier.size)] - first);
        };
        std::atomic<int64_t> next{0};
        FirstError error;
        team_.run(parts(num_edges), [&] {
            int64_t last = -1;
            for (int64_t block; (block = next.fetch_add(1)) < blocks && !error.before(block); last = block) {
                error.guard(block, [&] {
                    const int64_t begin = block * kBlock, end = std::min(begin + kBlock, frontier.size);
                    rule.draw(frontier, begin, end, offsets, positions.data(), importance.data());
                    std::copy(offsets + begin, offsets + end, indptr.data() + begin);
                    if (last >= 0) relabelling.end(last, relabel);
                    read_sources(positions.data(), ids.data(), offsets[begin], offsets[end]);
                    nodes_.prefetch(ids.data() + offsets[begin], offsets[end] - offsets[begin]);
                });
            }
            if (last >= 0 && !error.before(blocks)) relabelling.end(last, relabel);
        });
        error.rethrow();
        indptr[frontier.size] = static_cast<Id>(num_edges);
        return {std::move(indptr), std::move(ids), std::move(positions), std::move(importance)};
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
    Team team_;
    int64_t known_rows_ = 0;
};

template <class Index>
Sample sample(const Csc<Index>& graph, const int64_t* seeds, int64_t num_seeds,
              const std::vector<int64_t>& fanouts, const Drawing& drawing, const MakeRule& make_rule) {
    if (graph.num_nodes <= drawing.narrow_limit)
        return Sampler<Index, int32_t>(graph, drawing).run(seeds, num_seeds, fanouts, make_rule);
    return Sampler<Index, int64_t>(graph, drawing).run(seeds, num_seeds, fanouts, make_rule);
}

}  // namespace

template <class Index>
Sample sample_neighbors(const Csc<Index>& graph, const float* weight, const int64_t* seeds, int64_t num_seeds,
                        const std::vector<int64_t>& fanouts, bool replace, const Drawing& drawing) {
    return sample(graph, seeds, num_seeds, fanouts, drawing, [&](size_t hop) {
        const uint64_t state = fold(drawing.key, hop);
        return weight == nullptr ? draw_alike(fanouts[hop], replace, state)
                                 : draw_by_weight(weight, fanouts[hop], replace, state);
    });
}

template <class Index>
Sample sample_labor(const Csc<Index>& graph, const int64_t* seeds, int64_t num_seeds,
                    const std::vector<int64_t>& fanouts, int64_t iterations, bool shared, const Drawing& drawing) {
    return sample(graph, seeds, num_seeds, fanouts, drawing, [&](size_t hop) {
        return draw_labor(graph, fanouts[hop], iterations, fold(drawing.key, shared ? 0 : hop), drawing);
    });
}

template Sample sample_neighbors(const Csc<int32_t>&, const float*, const int64_t*, int64_t,
                                 const std::vector<int64_t>&, bool, const Drawing&);
template Sample sample_neighbors(const Csc<int64_t>&, const float*, const int64_t*, int64_t,
                                 const std::vector<int64_t>&, bool, const Drawing&);
template Sample sample_labor(const Csc<int32_t>&, const int64_t*, int64_t, const std::vector<int64_t>&, int64_t,
                             bool, const Drawing&);
template Sample sample_labor(const Csc<int64_t>&, const int64_t*, int64_t, const std::vector<int64_t>&, int64_t,
                             bool, const Drawing&);

}  // namespace gnnscale
