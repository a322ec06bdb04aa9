#include "rules.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "multiversion.h"
#include "prefetch.h"
#include "random.h"

namespace gnnscale {
namespace {

class All final : public Rule {
  public:
    void count(const Frontier& frontier, int64_t begin, int64_t end, int64_t* counts) override {
        for (int64_t i = begin; i < end; ++i) counts[i] = frontier.rows[i].degree;
    }
    void draw(const Frontier& frontier, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
              float*) override {
        for (int64_t i = begin; i < end; ++i)
            std::iota(positions + offsets[i], positions + offsets[i + 1], frontier.rows[i].start);
    }
};

// Numbers below `limit` that have been met. A bit stands for all numbers that are the same modulo the number of bits;
// only where there are several of them, those met have to be looked through.
class Met {
  public:
    void begin(int64_t limit, int64_t count) {
        int64_t words = kWords;
        while (64 * words < limit && words < count) words *= 2;
        if (static_cast<int64_t>(bits_.size()) < words) bits_.resize(words);
        mask_ = 64 * words - 1;
        std::fill_n(bits_.data(), std::min(words, limit / 64 + 1), 0);
        exact_ = limit <= 64 * words;
    }

    // The number itself where it is not among the `count` in `met`, else the other one; it has been met then. Without
    // a branch in short rows, where either is likely.
    int64_t add(int64_t number, int64_t other, const int64_t* met, int64_t count) {
        bool known = bits_[(number & mask_) >> 6] >> (number & 63) & 1;
        if (!exact_ && known) known = std::find(met, met + count, number) != met + count;
        const int64_t added = known ? other : number;
        bits_[(added & mask_) >> 6] |= uint64_t{1} << (added & 63);
        return added;
    }

  private:
    static constexpr int64_t kWords = 16;
    std::vector<uint64_t> bits_;
    int64_t mask_ = 0;
    bool exact_ = false;
};

class Alike final : public Rule {
  public:
    Alike(int64_t fanout, bool replace, uint64_t state) : fanout_(fanout), replace_(replace), state_(state) {}

    void count(const Frontier& frontier, int64_t begin, int64_t end, int64_t* counts) override {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t degree = frontier.rows[i].degree;
            counts[i] = replace_ ? (degree > 0 ? fanout_ : 0) : std::min(degree, fanout_);
        }
    }

    void draw(const Frontier& frontier, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
              float* importance) override {
        Met met;
        for (int64_t i = begin; i < end; ++i) {
            const Row row = frontier.rows[i];
            const int64_t drawn = offsets[i + 1] - offsets[i];
            int64_t* mine = positions + offsets[i];
            if (!replace_ && row.degree <= fanout_)
                std::iota(mine, mine + drawn, int64_t{0});
            else if (replace_)
                draw_any(row.degree, drawn, fold(state_, frontier.nodes[i]), mine);
            else
                draw_distinct(row.degree, drawn, fold(state_, frontier.nodes[i]), met, mine);
            const float stands_for = static_cast<float>(row.degree) / static_cast<float>(drawn);
            for (int64_t j = 0; j < drawn; ++j) {
                mine[j] += row.start;
                frontier.prefetch(mine[j]);
                importance[offsets[i] + j] = stands_for;
            }
        }
    }

  private:
    static void draw_any(int64_t degree, int64_t count, uint64_t state, int64_t* out) {
        for (int64_t j = 0; j < count; ++j) out[j] = bounded(fold(state, j), degree);
    }

    // For each j of the last `count` numbers below `degree` a random one of the first j + 1, or j itself if that one
    // is taken.
    static void draw_distinct(int64_t degree, int64_t count, uint64_t state, Met& met, int64_t* out) {
        met.begin(degree, count);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t last = degree - count + i;
            out[i] = met.add(bounded(fold(state, i), last + 1), last, out, i);
        }
    }

    const int64_t fanout_;
    const bool replace_;
    const uint64_t state_;
};

// The rows' weights, asked for some rows ahead.
void prefetch_weights(const Frontier& frontier, int64_t i, int64_t end, const float* weight) {
    constexpr int64_t kRowsAhead = 4;
    if (i + kRowsAhead >= end) return;
    const Row row = frontier.rows[i + kRowsAhead];
    prefetch(weight + row.start, row.degree * sizeof(float));
}

class ByWeightAgain final : public Rule {
  public:
    ByWeightAgain(const float* weight, int64_t fanout, uint64_t state)
        : weight_(weight), fanout_(fanout), state_(state) {}

    void count(const Frontier& frontier, int64_t begin, int64_t end, int64_t* counts) override {
        for (int64_t i = begin; i < end; ++i) {
            prefetch_weights(frontier, i, end, weight_);
            const float* weight = weight_ + frontier.rows[i].start;
            const float* last = weight + frontier.rows[i].degree;
            counts[i] = std::any_of(weight, last, [](float w) { return w > 0; }) ? fanout_ : 0;
        }
    }

    void draw(const Frontier& frontier, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
              float* importance) override {
        std::vector<double> sums;  // of the first 1, 2, ... weights of a row
        for (int64_t i = begin; i < end; ++i) {
            prefetch_weights(frontier, i, end, weight_);
            const Row row = frontier.rows[i];
            const float* weight = weight_ + row.start;
            sums.resize(row.degree);
            double sum = 0;
            for (int64_t e = 0; e < row.degree; ++e) sums[e] = sum += weight[e];
            const uint64_t state = fold(state_, frontier.nodes[i]);
            for (int64_t j = 0; j < offsets[i + 1] - offsets[i]; ++j) {
                auto drawn = std::upper_bound(sums.begin(), sums.end(), uniform(fold(state, j)) * sum);
                if (drawn == sums.end()) drawn = std::lower_bound(sums.begin(), sums.end(), sum);
                const int64_t edge = drawn - sums.begin();
                positions[offsets[i] + j] = row.start + edge;
                frontier.prefetch(row.start + edge);
                importance[offsets[i] + j] = static_cast<float>(sum / (fanout_ * static_cast<double>(weight[edge])));
            }
        }
    }

  private:
    const float* weight_;
    const int64_t fanout_;
    const uint64_t state_;
};

// The edges' priorities; gives the sum of their weights, rounded in any way.
MULTIVERSION double find_priorities(const float* weight, int64_t count, uint64_t state, uint64_t first, double* out) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t e = 0; e < count; ++e) {
        const double w = weight[e];
        out[e] = w / (1 - uniform(fold(state, first + e)));
        sum += w;
    }
    return sum;
}

class ByPriority final : public Rule {
  public:
    ByPriority(const float* weight, int64_t fanout, uint64_t state)
        : weight_(weight), fanout_(fanout), state_(state) {}

    void count(const Frontier& frontier, int64_t begin, int64_t end, int64_t* counts) override {
        for (int64_t i = begin; i < end; ++i) {
            prefetch_weights(frontier, i, end, weight_);
            const float* weight = weight_ + frontier.rows[i].start;
            int64_t found = 0;
            for (int64_t e = 0; e < frontier.rows[i].degree && found < fanout_; ++e) found += weight[e] > 0;
            counts[i] = found;
        }
    }

    void draw(const Frontier& frontier, int64_t begin, int64_t end, const int64_t* offsets, int64_t* positions,
              float* importance) override {
        Scratch scratch;
        for (int64_t i = begin; i < end; ++i) {
            prefetch_weights(frontier, i, end, weight_);
            draw_row(frontier.rows[i], scratch, positions + offsets[i], importance + offsets[i]);
            for (int64_t e = offsets[i]; e < offsets[i + 1]; ++e) frontier.prefetch(positions[e]);
        }
    }

  private:
    struct Edge {
        double priority;
        int64_t position;
    };
    static bool is_before(const Edge& a, const Edge& b) {
        return a.priority > b.priority || (a.priority == b.priority && a.position < b.position);
    }

    // Of one row after the other.
    struct Scratch {
        std::vector<double> priorities;
        std::vector<int64_t> above;
        std::vector<Edge> edges;
    };

    // Above t are on average no more priorities than the sum of the weights divided by t. So those above a suitable t
    // are few, and mostly all that matter; if they are not, all are looked at.
    void draw_row(Row row, Scratch& scratch, int64_t* positions, float* importance) {
        if (static_cast<int64_t>(scratch.above.size()) < row.degree) {
            scratch.priorities.resize(row.degree);
            scratch.above.resize(row.degree);
        }
        double* priorities = scratch.priorities.data();
        int64_t* above = scratch.above.data();
        const double sum = find_priorities(weight_ + row.start, row.degree, state_, row.start, priorities);
        const auto find_above = [&](double least) {
            int64_t found = 0;
            for (int64_t e = 0; e < row.degree; ++e) {
                above[found] = e;
                found += priorities[e] > least;
            }
            return found;
        };
        int64_t found = find_above(row.degree > fanout_ ? sum / static_cast<double>(2 * fanout_ + 6) : 0);
        if (found <= fanout_) found = find_above(0);
        scratch.edges.resize(found);
        Edge* edges = scratch.edges.data();
        for (int64_t i = 0; i < found; ++i) edges[i] = {priorities[above[i]], row.start + above[i]};
        double threshold = 0;
        if (found > fanout_) {
            std::nth_element(edges, edges + fanout_, edges + found, is_before);
            threshold = edges[fanout_].priority;
            found = fanout_;
        }
        std::sort(edges, edges + found, [](const Edge& a, const Edge& b) { return a.position < b.position; });
        for (int64_t e = 0; e < found; ++e) {
            positions[e] = edges[e].position;
            importance[e] = static_cast<float>(std::max(1.0, threshold / weight_[edges[e].position]));
        }
    }

    const float* weight_;
    const int64_t fanout_;
    const uint64_t state_;
};

}  // namespace

std::unique_ptr<Rule> take_all() { return std::make_unique<All>(); }

std::unique_ptr<Rule> draw_alike(int64_t fanout, bool replace, uint64_t state) {
    return std::make_unique<Alike>(fanout, replace, state);
}

std::unique_ptr<Rule> draw_by_weight(const float* weight, int64_t fanout, bool replace, uint64_t state) {
    // Of one edge, the importance by priority has an infinite variance.
    if (replace || fanout == 1) return std::make_unique<ByWeightAgain>(weight, fanout, state);
    return std::make_unique<ByPriority>(weight, fanout, state);
}

}  // namespace gnnscale
