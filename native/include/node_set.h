// The nodes of a sample in the making, and where each stands among them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "buffer.h"
#include "free_list.h"

namespace gnnscale {

// Reads at random places wait for memory; asking for them this many steps ahead keeps many under way.
constexpr int64_t kAhead = 32;

// Graphs of up to so many nodes have a map that is as long as they are. The map of larger ones is hashed, as long as
// the sample: it stays in the caches, and each thread has one.
constexpr int64_t kDenseNodes = int64_t{1} << 24;

struct Row {
    int64_t start;
    int64_t degree;
};

// Where nodes stand. Entries count on from call to call, and what is below a call's first is from earlier ones: so
// nothing has to be cleaned.
template <class Local>
class NodeMap {
  public:
    struct Slot {
        Local node, number;
    };

    // As long as the graph.
    struct Dense {
        Local* numbers;
        Local first;

        void prefetch(int64_t node) const { __builtin_prefetch(numbers + node, 1); }

        // The node's number, which becomes `next` if it had none; without a branch, which would be mispredicted half
        // of the time.
        Local number(int64_t node, Local next) const {
            const Local known = numbers[node] - first;
            const Local number = known < 0 ? next : known;
            numbers[node] = first + number;
            return number;
        }
    };

    // As long as the sample, at most half full.
    struct Hashed {
        Slot* slots;
        uint64_t mask;
        int shift;
        Local first;

        uint64_t home(int64_t node) const { return static_cast<uint64_t>(node) * 0x9E3779B97F4A7C15u >> shift; }

        void prefetch(int64_t node) const { __builtin_prefetch(slots + home(node), 1); }

        Local number(int64_t node, Local next) const {
            uint64_t at = home(node);
            while (slots[at].number >= first && slots[at].node != node) at = (at + 1) & mask;
            if (slots[at].number < first)
                slots[at] = {static_cast<Local>(node), static_cast<Local>(first + next)};
            return slots[at].number - first;
        }
    };

    void begin(int64_t num_nodes, bool hashed) {
        is_hashed_ = hashed;
        if (first_ > std::numeric_limits<Local>::max() - num_nodes) {
            std::fill_n(numbers_.data(), numbers_.size(), Local{-1});
            std::fill(slots_.begin(), slots_.end(), Slot{0, -1});
            first_ = 0;
        }
        if (hashed || static_cast<int64_t>(numbers_.size()) >= num_nodes) return;
        numbers_ = Buffer<Local>(num_nodes);
        std::fill_n(numbers_.data(), num_nodes, Local{-1});
    }

    // Forgets the nodes, `size` in all.
    void end(int64_t size) { first_ += static_cast<Local>(size); }

    // Makes room for `size` nodes in all.
    void reserve(int64_t size) {
        if (!is_hashed_ || 2 * size <= static_cast<int64_t>(slots_.size())) return;
        int bits = 10;
        while ((int64_t{1} << bits) < 2 * size) ++bits;
        std::vector<Slot> old(size_t{1} << bits, Slot{0, -1});
        old.swap(slots_);
        shift_ = 64 - bits;
        for (const Slot& slot : old)
            if (slot.number >= first_) hashed().number(slot.node, slot.number - first_);
    }

    bool is_hashed() const { return is_hashed_; }
    Dense dense() { return {numbers_.data(), first_}; }
    Hashed hashed() { return {slots_.data(), slots_.size() - 1, shift_, first_}; }

  private:
    bool is_hashed_ = false;
    int shift_ = 64;
    Local first_ = 0;  // the first node's entry
    Buffer<Local> numbers_;  // of the pool for its huge pages, and kept
    std::vector<Slot> slots_;
};

// What a call needs besides its result, kept between calls.
template <class Local>
struct Workspace {
    NodeMap<Local> map;
    std::vector<Row> rows;
    std::vector<int64_t> offsets;
};

// Workspaces at rest: as many as there have been calls at the same time.
template <class Local>
FreeList<std::unique_ptr<Workspace<Local>>>& workspaces() {
    static auto* shared = new FreeList<std::unique_ptr<Workspace<Local>>>;  // never destroyed: a thread may still sample at exit
    return *shared;
}

// The nodes of the sample so far and their places, the workspace with them; given back whatever happens.
template <class Local>
class NodeSet {
  public:
    explicit NodeSet(int64_t num_nodes, int64_t dense_nodes = kDenseNodes)
        : num_nodes_(num_nodes), workspace_(workspaces<Local>().take()) {
        if (!workspace_) workspace_ = std::make_unique<Workspace<Local>>();
        map().begin(num_nodes, num_nodes > dense_nodes);
    }
    ~NodeSet() {
        map().end(size_);
        workspaces<Local>().give(std::move(workspace_));
    }

    void add_seeds(const int64_t* seeds, int64_t num_seeds) {
        reserve(num_seeds);
        on_map([&](auto map) {
            for (int64_t i = 0; i < num_seeds; ++i) {
                const int64_t node = seeds[i];
                if (node < 0 || node >= num_nodes_)
                    throw std::invalid_argument("seeds[" + std::to_string(i) + "] is " + std::to_string(node) +
                                                "; node ids of this graph are 0 to " +
                                                std::to_string(num_nodes_ - 1) + ".");
                if (size_ == num_nodes_ || map.number(node, static_cast<Local>(i)) != i)
                    throw std::invalid_argument("seeds holds node " + std::to_string(node) +
                                                " more than once; give each seed once.");
                nodes_[i] = node;
                size_ = i + 1;
            }
        });
    }

    // Makes room for `count` more ids; until it is used up, pointers to the nodes stay good.
    void reserve(int64_t count) {
        const int64_t most = size_ + std::min(count, num_nodes_ - size_);
        if (static_cast<int64_t>(nodes_.size()) < most + 1) nodes_.resize(most + 1);
        map().reserve(most);
    }

    // Asks for the places of ids that will be relabelled.
    template <class Id>
    void prefetch(const Id* ids, int64_t count) {
        on_map([&](auto map) {
            for (int64_t e = 0; e < count; ++e) map.prefetch(ids[e]);
        });
    }

    // Replaces global ids by local ones, and adds those not met before; in room that was made for them.
    template <class Id>
    void relabel_reserved(Id* ids, int64_t count) {
        on_map([&](auto map) {
            int64_t* nodes = nodes_.data();
            int64_t size = size_;
            for (int64_t e = 0; e < count; ++e) {
                if (e + kAhead < count) map.prefetch(ids[e + kAhead]);
                const int64_t node = ids[e];
                const Local local = map.number(node, static_cast<Local>(size));
                nodes[size] = node;
                size += local == size;
                ids[e] = static_cast<Id>(local);
            }
            size_ = size;
        });
    }

    template <class Id>
    void relabel(Id* ids, int64_t count) {
        reserve(count);
        relabel_reserved(ids, count);
    }

    int64_t size() const { return size_; }
    const int64_t* data() const { return nodes_.data(); }
    Workspace<Local>& workspace() { return *workspace_; }
    Buffer<int64_t> copy() const {
        Buffer<int64_t> nodes(size_);
        std::copy_n(nodes_.data(), size_, nodes.data());
        return nodes;
    }

    // The nodes themselves; the set is at its end.
    Buffer<int64_t> take() {
        nodes_.resize(size_);
        return std::move(nodes_);
    }

  private:
    NodeMap<Local>& map() { return workspace_->map; }

    template <class Work>
    void on_map(const Work& work) {
        if (map().is_hashed())
            work(map().hashed());
        else
            work(map().dense());
    }

    int64_t num_nodes_;
    int64_t size_ = 0;
    Buffer<int64_t> nodes_;
    std::unique_ptr<Workspace<Local>> workspace_;
};

}  // namespace gnnscale
