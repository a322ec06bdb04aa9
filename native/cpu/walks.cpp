#include "walks.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

// So many walks go side by side, that their reads from memory overlap.
constexpr int64_t kGroup = 64;
constexpr int64_t kWalksPerThread = 4096;

struct Walker {
    int64_t walk;
    int64_t node;
    uint64_t state;
    int64_t edge;
};

template <class Index>
class Steps {
  public:
    Steps(const Csc<Index>& graph, const Walks& walks) : graph_(graph), sums_(walks.sums) {}

    // Starts the walks [begin, end).
    void start(const Walks& walks, int64_t begin, int64_t end) {
        group_.clear();
        for (int64_t w = begin; w < end; ++w) {
            __builtin_prefetch(graph_.indptr + walks.starts[w]);
            group_.push_back({w, walks.starts[w], fold(walks.key, w), 0});
        }
    }

    bool done() const { return group_.empty(); }

    // Leaves out the walks for which `ends(walker)`.
    template <class Ends>
    void leave_out(const Ends& ends) {
        group_.erase(std::remove_if(group_.begin(), group_.end(), ends), group_.end());
    }

    // Takes one step with word `counter` of each walk; those that cannot are left out.
    void take(uint64_t counter) {
        leave_out([&](Walker& walker) {
            const int64_t low = graph_.indptr[walker.node], high = graph_.indptr[walker.node + 1];
            walker.edge = draw(low, high, fold(walker.state, counter));
            if (walker.edge < 0) return true;
            __builtin_prefetch(graph_.indices + walker.edge);
            return false;
        });
        for (Walker& walker : group_) {
            walker.node = graph_.indices[walker.edge];
            if (walker.node < 0 || walker.node >= graph_.num_nodes)
                throw std::invalid_argument("indices[" + std::to_string(walker.edge) + "] is " +
                                            std::to_string(walker.node) + "; node ids of this graph are 0 to " +
                                            std::to_string(graph_.num_nodes - 1) + ".");
            __builtin_prefetch(graph_.indptr + walker.node);
        }
    }

    const std::vector<Walker>& group() const { return group_; }

  private:
    int64_t draw(int64_t begin, int64_t end, uint64_t word) const {
        if (begin == end) return -1;
        if (sums_ == nullptr) return begin + bounded(word, end - begin);
        const double low = sums_[begin], high = sums_[end];
        if (!(high > low)) return -1;
        // Rounding may not lead to the row's end: past it is another row, before it an edge that weighs nothing.
        const double target = std::min(low + uniform(word) * (high - low), std::nextafter(high, low));
        return std::upper_bound(sums_ + begin, sums_ + end + 1, target) - sums_ - 1;
    }

    const Csc<Index>& graph_;
    const double* sums_;
    std::vector<Walker> group_;
};

// Runs work(steps, begin, end) over groups of walks.
template <class Index, class Work>
void in_groups(const Csc<Index>& graph, const Walks& walks, const Work& work) {
    run_ranges(walks.count, parts_for(walks.count, kWalksPerThread, walks.num_threads),
               [&](int64_t begin, int64_t end) {
                   Steps<Index> steps(graph, walks);
                   for (int64_t first = begin; first < end; first += kGroup) {
                       steps.start(walks, first, std::min(first + kGroup, end));
                       work(steps);
                   }
               });
}

}  // namespace

template <class Index>
void random_walks(const Csc<Index>& graph, const Walks& walks, int64_t length, int64_t* out) {
    const int64_t width = length + 1;
    std::fill_n(out, walks.count * width, -1);
    for (int64_t w = 0; w < walks.count; ++w) out[w * width] = walks.starts[w];
    in_groups(graph, walks, [&](Steps<Index>& steps) {
        for (int64_t t = 0; t < length && !steps.done(); ++t) {
            steps.take(2 * t);
            for (const Walker& walker : steps.group()) out[walker.walk * width + t + 1] = walker.node;
            if (walks.stop > 0)
                steps.leave_out(
                    [&](const Walker& walker) { return uniform(fold(walker.state, 2 * t + 1)) < walks.stop; });
        }
    });
}

template <class Index>
void walk_ends(const Csc<Index>& graph, const Walks& walks, int64_t* out) {
    std::copy_n(walks.starts, walks.count, out);
    in_groups(graph, walks, [&](Steps<Index>& steps) {
        for (uint64_t t = 0; !steps.done(); ++t) {
            steps.leave_out([&](const Walker& walker) { return uniform(fold(walker.state, 2 * t)) < walks.stop; });
            steps.take(2 * t + 1);
            for (const Walker& walker : steps.group()) out[walker.walk] = walker.node;
        }
    });
}

template void random_walks(const Csc<int32_t>&, const Walks&, int64_t, int64_t*);
template void random_walks(const Csc<int64_t>&, const Walks&, int64_t, int64_t*);
template void walk_ends(const Csc<int32_t>&, const Walks&, int64_t*);
template void walk_ends(const Csc<int64_t>&, const Walks&, int64_t*);

}  // namespace gnnscale
