#include "sampling.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>

#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

// Reads at random places wait for memory; asking for them this many steps ahead keeps many under way.
constexpr int64_t kAhead = 32;
constexpr int64_t kEdgesPerThread = 16384;
// Up to this many draws a search among them is faster than a bitmap over the neighbours.
constexpr int64_t kLinearSearch = 64;

struct Row {
    int64_t start;
    int64_t degree;
};

// What a call needs besides its result. The id map is dense, as long as the graph has nodes, so it is kept
// between calls and put back to -1 at the touched nodes alone.
template <class Local>
struct Workspace {
    std::vector<Local> local_id;  // -1: not in the sample
    std::vector<Row> rows;
    std::vector<int64_t> offsets;
};

// Workspaces at rest: as many as there have been calls at the same time.
template <class Local>
class Pool {
  public:
    std::unique_ptr<Workspace<Local>> take() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (free_.empty()) return std::make_unique<Workspace<Local>>();
        auto workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
    }
    void give(std::unique_ptr<Workspace<Local>> workspace) {
        std::lock_guard<std::mutex> lock(mutex_);
        free_.push_back(std::move(workspace));
    }

  private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Workspace<Local>>> free_;
};

template <class Local>
Pool<Local>& pool() {
    static auto* shared = new Pool<Local>;  // never destroyed: a thread may still sample at exit
    return *shared;
}

// The nodes of the sample so far and their places, the workspace with them; given back clean, whatever
// happens.
template <class Local>
class NodeSet {
  public:
    explicit NodeSet(int64_t num_nodes) : num_nodes_(num_nodes), workspace_(pool<Local>().take()) {
        auto& map = workspace_->local_id;
        if (static_cast<int64_t>(map.size()) < num_nodes) map.resize(num_nodes, -1);
    }
    ~NodeSet() {
        Local* map = workspace_->local_id.data();
        for (int64_t i = 0; i < size_; ++i) {
            if (i + kAhead < size_) __builtin_prefetch(map + nodes_[i + kAhead], 1);
            map[nodes_[i]] = -1;
        }
        pool<Local>().give(std::move(workspace_));
    }

    void add_seeds(const int64_t* seeds, int64_t num_seeds) {
        Local* map = workspace_->local_id.data();
        nodes_.resize(num_seeds);
        for (int64_t i = 0; i < num_seeds; ++i) {
            const int64_t node = seeds[i];
            if (node < 0 || node >= num_nodes_)
                throw std::invalid_argument("seeds[" + std::to_string(i) + "] is " + std::to_string(node) +
                                            "; node ids of this graph are 0 to " +
                                            std::to_string(num_nodes_ - 1) + ".");
            if (map[node] >= 0)
                throw std::invalid_argument("seeds holds node " + std::to_string(node) +
                                            " more than once; give each seed once.");
            map[node] = static_cast<Local>(i);
            nodes_[i] = node;
            size_ = i + 1;
        }
    }

    // Replaces global ids by local ones, and adds those not met before.
    template <class Id>
    void relabel(Id* ids, int64_t count) {
        Local* map = workspace_->local_id.data();
        nodes_.resize(size_ + std::min(count, num_nodes_ - size_) + 1);
        int64_t* nodes = nodes_.data();
        int64_t size = size_;
        for (int64_t e = 0; e < count; ++e) {
            if (e + kAhead < count) __builtin_prefetch(map + ids[e + kAhead], 1);
            const int64_t node = ids[e];
            const Local known = map[node];
            // Without a branch, which would be mispredicted half of the time.
            const bool fresh = known < 0;
            const Local local = fresh ? static_cast<Local>(size) : known;
            nodes[size] = node;
            map[node] = local;
            size += fresh;
            ids[e] = static_cast<Id>(local);
        }
        size_ = size;
    }

    int64_t size() const { return size_; }
    const int64_t* data() const { return nodes_.data(); }
    Workspace<Local>& workspace() { return *workspace_; }
    Buffer<int64_t> copy() const {
        Buffer<int64_t> nodes(size_);
        std::copy_n(nodes_.data(), size_, nodes.data());
        return nodes;
    }

  private:
    int64_t num_nodes_;
    int64_t size_ = 0;
    Buffer<int64_t> nodes_;
    std::unique_ptr<Workspace<Local>> workspace_;
};

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
