// Which nodes belong to a list, and where each stands in it.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer.h"
#include "check_nodes.h"
#include "free_list.h"

namespace gnnscale {

// A bit a node answers most questions, from a cache close by; the places are read for members alone, and need not be
// put back. Maps are as long as the graph has nodes, so they are kept between calls: as many as there have been calls
// at the same time.
class MemberMap {
  public:
    explicit MemberMap(int64_t num_nodes) : num_nodes_(num_nodes), memory_(take()) {
        const size_t words = (num_nodes + 63) / 64;
        if (memory_->bits.size() < words) memory_->bits.resize(words, 0);
    }
    ~MemberMap() {
        for (int64_t i = 0; i < size_; ++i) memory_->bits[nodes_[i] >> 6] = 0;
        rest().give(std::move(memory_));
    }
    MemberMap(const MemberMap&) = delete;
    MemberMap& operator=(const MemberMap&) = delete;

    // Makes `nodes`, which have to outlive the map, its members; `name` is what they are called in errors.
    void fill(const int64_t* nodes, int64_t count, const char* name) {
        if (count > INT32_MAX)
            throw std::invalid_argument(std::string(name) + " holds " + std::to_string(count) +
                                        " nodes; at most 2^31 - 1 can be numbered.");
        if (static_cast<int64_t>(memory_->places.size()) < num_nodes_) memory_->places.resize(num_nodes_);
        nodes_ = nodes;
        for (; size_ < count; ++size_) {
            if (size_ + kPlacesAhead < count) {
                const int64_t ahead = nodes[size_ + kPlacesAhead];
                if (static_cast<uint64_t>(ahead) < static_cast<uint64_t>(num_nodes_))
                    __builtin_prefetch(memory_->places.data() + ahead, 1);
            }
            const int64_t node = nodes[size_];
            check_node(name, size_, node, num_nodes_);
            if (has(node))
                throw std::invalid_argument(std::string(name) + " holds node " + std::to_string(node) +
                                            " more than once; give each once.");
            memory_->bits[node >> 6] |= uint64_t{1} << (node & 63);
            memory_->places[node] = static_cast<int32_t>(size_);
        }
    }

    bool has(int64_t node) const { return memory_->bits[node >> 6] >> (node & 63) & 1; }
    // Of members alone.
    int32_t place(int64_t node) const { return memory_->places[node]; }
    const uint64_t* bits() const { return memory_->bits.data(); }
    const int32_t* places() const { return memory_->places.data(); }

  private:
    static constexpr int64_t kPlacesAhead = 16;

    struct Memory {
        std::vector<uint64_t> bits;
        Buffer<int32_t> places;
    };
    static FreeList<std::unique_ptr<Memory>>& rest() {
        static auto* shared = new FreeList<std::unique_ptr<Memory>>;  // never destroyed: a thread may still sample at exit
        return *shared;
    }
    static std::unique_ptr<Memory> take() {
        auto memory = rest().take();
        return memory ? std::move(memory) : std::make_unique<Memory>();
    }

    int64_t num_nodes_;
    const int64_t* nodes_ = nullptr;
    int64_t size_ = 0;
    std::unique_ptr<Memory> memory_;
};

}  // namespace gnnscale
