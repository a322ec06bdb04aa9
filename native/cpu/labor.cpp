// LABOR (Balin and Catalyurek, "Layer-Neighbor Sampling", NeurIPS 2023).
//
// With y_v = 1 / c_v, an edge u -> v is kept with p = min(1, pi_u / y_v), where y_v solves
// sum_u max(1, y_v / pi_u) = d^2 / min(k, d). LABOR-0 has pi = 1 and y = max(1, d / k). LABOR-i then repeats
// pi_u <- pi_u / min_v y_v, and y for that pi, i times, or until the expected number of sources, sum_u min(1, pi_u) by
// the last pi and y, falls by less than one in 10^4.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <variant>
#include <vector>

#include "multiversion.h"
#include "ordered_sums.h"
#include "parallel.h"
#include "prefetch.h"
#include "random.h"
#include "rules.h"

namespace gnnscale {
namespace {

// uniform(word) < p just where word >> 12 is less than this.
uint64_t limit_of(double p) { return static_cast<uint64_t>(std::ceil(p * 0x1p52)); }

template <class Index>
[[gnu::always_inline]] inline void mark(const Index* sources, int64_t count, uint64_t state, uint64_t limit,
                                        uint8_t* keep) {
    for (int64_t e = 0; e < count; ++e)
        keep[e] = static_cast<int64_t>(fold(state, sources[e]) >> 12) < static_cast<int64_t>(limit);
}
MULTIVERSION void mark_below(const int32_t* sources, int64_t count, uint64_t state, uint64_t limit, uint8_t* keep) {
    mark(sources, count, state, limit, keep);
}
MULTIVERSION void mark_below(const int64_t* sources, int64_t count, uint64_t state, uint64_t limit, uint8_t* keep) {
    mark(sources, count, state, limit, keep);
}

// The root y of sum max(1, y / pi) = d^2 / k for the `degree` > k values of a row. The sum is convex and made of
// straight pieces: Newton's method, started to the right of the root, comes down to it through ever smaller sets of
// edges with p < 1, and is exact once they stay.
double solve(const double* pi, int64_t degree, int64_t fanout) {
    const double d = static_cast<double>(degree), target = d * d / static_cast<double>(fanout);
    double bound = std::numeric_limits<double>::infinity();  // free are those below it
    for (int64_t before = degree;;) {
        Strands slope;
        int64_t num_free = 0;
        for (int64_t e = 0; e < degree; ++e) {
            if (!(pi[e] < bound)) continue;
            slope[e] += 1 / pi[e];
            ++num_free;
        }
        const double y = (target - d + static_cast<double>(num_free)) / slope.sum();
        bound = std::min(bound, y);
        const int64_t still = std::count_if(pi, pi + degree, [&](double p) { return p < bound; });
        if (still == before) return y;
        before = still;
    }
}

template <class Index>
class Labor final : public Rule {
  public:
    Labor(const Csc<Index>& graph, int64_t fanout, int64_t iterations, uint64_t state, const Drawing& drawing)
        : graph_(graph),
          fanout_(fanout),
          iterations_(fanout > 0 ? iterations : 0),  // of none, no pi converges
          state_(state),
          drawing_(drawing) {}

    void prepare(const Frontier& frontier, Team& team) override {
        kept_.resize((frontier.size + kBlock - 1) / kBlock);
        if (iterations_ != 0) iterate(frontier, team);
    }

    void count(const Frontier& frontier, int64_t begin, int64_t end, int64_t* counts) override {
        Kept& kept = kept_[begin / kBlock];
        std::vector<uint8_t> keep;
        for (int64_t i = begin; i < end; ++i) {
            const Row row = frontier.rows[i];
            if (i + 2 < end)
                prefetch(graph_.indices + frontier.rows[i + 2].start, frontier.rows[i + 2].degree * sizeof(Index));
            const size_t before = kept.positions.size();
            if (iterations_ != 0)
                keep_by_pi(i, row, kept);
            else
                keep_alike(row, keep, kept);
            counts[i] = kept.positions.size() - before;
        }
    }

    void draw(const Frontier& frontier, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
              float* importance) override {
        const Kept& kept = kept_[begin / kBlock];
        std::copy_n(kept.positions.data(), offsets[end] - offsets[begin], positions + offsets[begin]);
        std::copy_n(kept.importance.data(), offsets[end] - offsets[begin], importance + offsets[begin]);
        for (const int64_t position : kept.positions) frontier.prefetch(position);
    }

  private:
    struct Kept {
        std::vector<int64_t> positions;
        std::vector<float> importance;
    };

    void keep_alike(Row row, std::vector<uint8_t>& keep, Kept& kept) {
        if (row.degree <= fanout_) {
            for (int64_t e = 0; e < row.degree; ++e) kept.positions.push_back(row.start + e);
        } else {
            const double p = 1 / (static_cast<double>(row.degree) / static_cast<double>(fanout_));
            keep.resize(row.degree);
            mark_below(graph_.indices + row.start, row.degree, state_, limit_of(p), keep.data());
            size_t size = kept.positions.size();
            kept.positions.resize(size + row.degree);
            for (int64_t e = 0; e < row.degree; ++e) {
                kept.positions[size] = row.start + e;
                size += keep[e];
            }
            kept.positions.resize(size);
        }
        const double p = row.degree <= fanout_ ? 1 : 1 / (static_cast<double>(row.degree) / fanout_);
        kept.importance.resize(kept.positions.size(), static_cast<float>(1 / p));
    }

    void keep_by_pi(int64_t i, Row row, Kept& kept) {
        std::visit(
            [&](const auto& sources) {
                for (int64_t e = 0; e < row.degree; ++e) {
                    const int64_t u = sources[first_[i] + e];
                    const double p = std::min(1.0, pi_[u] / y_[i]);
                    if (words_[u] >> 12 >= limit_of(p)) continue;
                    kept.positions.push_back(row.start + e);
                    kept.importance.push_back(static_cast<float>(1 / p));
                }
            },
            all_.hops[0].indices);
    }

    // pi of the sources and y of the rows.
    void iterate(const Frontier& frontier, Team& team) {
        all_ = sample_neighbors(graph_, nullptr, frontier.nodes, frontier.size, {-1}, false, drawing_);
        const int64_t num_sources = all_.nodes.size();
        first_.resize(frontier.size + 1);
        y_.resize(frontier.size);
        for (int64_t i = 0; i < frontier.size; ++i) {
            const int64_t degree = frontier.rows[i].degree;
            first_[i + 1] = first_[i] + degree;
            y_[i] = std::max(1.0, static_cast<double>(degree) / static_cast<double>(fanout_));
        }
        words_.resize(num_sources);
        for (int64_t u = 0; u < num_sources; ++u) words_[u] = fold(state_, all_.nodes[u]);
        pi_.assign(num_sources, 1.0);
        std::vector<std::atomic<double>> least(num_sources);
        double expected = std::numeric_limits<double>::infinity();
        for (int64_t done = 0; done != iterations_; ++done) {
            for (auto& y : least) y.store(std::numeric_limits<double>::infinity(), std::memory_order_relaxed);
            each_row(frontier, team, [&](int64_t i, const auto* sources, int64_t degree) {
                for (int64_t e = 0; e < degree; ++e) lower(least[sources[e]], y_[i]);
            });
            // A destination is in the list, too; no edge may leave it.
            for (int64_t u = 0; u < num_sources; ++u) pi_[u] /= least[u].load(std::memory_order_relaxed);
            each_row(frontier, team, [&](int64_t i, const auto* sources, int64_t degree) {
                std::vector<double> pi(degree);
                for (int64_t e = 0; e < degree; ++e) pi[e] = pi_[sources[e]];
                if (degree > fanout_)
                    y_[i] = solve(pi.data(), degree, fanout_);
                else if (degree > 0)
                    y_[i] = *std::min_element(pi.begin(), pi.end());
            });
            const double before = expected;
            expected = add_up_in_blocks([&](int64_t u) { return std::min(1.0, pi_[u]); }, num_sources, nullptr);
            if (expected >= (1 - 1e-4) * before) break;
        }
    }

    template <class Work>
    void each_row(const Frontier& frontier, Team& team, const Work& work) {
        std::visit(
            [&](const auto& sources) {
                team.run(frontier.size, kBlock, parts_for(first_.back(), 4096, drawing_.num_threads),
                         [&](int64_t begin, int64_t end) {
                             for (int64_t i = begin; i < end; ++i)
                                 work(i, sources.data() + first_[i], first_[i + 1] - first_[i]);
                         });
            },
            all_.hops[0].indices);
    }

    static void lower(std::atomic<double>& least, double y) {
        double known = least.load(std::memory_order_relaxed);
        while (y < known && !least.compare_exchange_weak(known, y, std::memory_order_relaxed)) {
        }
    }

    const Csc<Index>& graph_;
    const int64_t fanout_, iterations_;
    const uint64_t state_;
    const Drawing& drawing_;
    std::vector<Kept> kept_;  // of each block
    // Of LABOR-i: all in-edges of the destinations, where those of each row begin, the sources' words and pi, and y.
    Sample all_;
    std::vector<int64_t> first_;
    std::vector<uint64_t> words_;
    std::vector<double> pi_, y_;
};

}  // namespace

template <class Index>
std::unique_ptr<Rule> draw_labor(const Csc<Index>& graph, int64_t fanout, int64_t iterations, uint64_t state,
                                 const Drawing& drawing) {
    return std::make_unique<Labor<Index>>(graph, fanout, iterations, state, drawing);
}

template std::unique_ptr<Rule> draw_labor(const Csc<int32_t>&, int64_t, int64_t, uint64_t, const Drawing&);
template std::unique_ptr<Rule> draw_labor(const Csc<int64_t>&, int64_t, int64_t, uint64_t, const Drawing&);

}  // namespace gnnscale
