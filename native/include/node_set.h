// The nodes of a sample in the making, and where each stands among them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "buffer.h"

namespace gnnscale {

// Reads at random places wait for memory; asking for them this many steps ahead keeps many under way.
constexpr int64_t kAhead = 32;

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
class WorkspacePool {
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
WorkspacePool<Local>& workspaces() {
    static auto* shared = new WorkspacePool<Local>;  // never destroyed: a thread may still sample at exit
    return *shared;
}

// The nodes of the sample so far and their places, the workspace with them; given back clean, whatever
// happens.
template <class Local>
class NodeSet {
  public:
    explicit NodeSet(int64_t num_nodes) : num_nodes_(num_nodes), workspace_(workspaces<Local>().take()) {
        auto& map = workspace_->local_id;
        if (static_cast<int64_t>(map.size()) < num_nodes) map.resize(num_nodes, -1);
    }
    ~NodeSet() {
        Local* map = workspace_->local_id.data();
        for (int64_t i = 0; i < size_; ++i) {
            if (i + kAhead < size_) __builtin_prefetch(map + nodes_[i + kAhead], 1);
            map[nodes_[i]] = -1;
        }
        workspaces<Local>().give(std::move(workspace_));
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

}  // namespace gnnscale
