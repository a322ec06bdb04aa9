#include "rules.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
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

// Floyd's algorithm over candidates of which number i is random among the first first + i + 1 numbers: one that has
// been met gives way to first + i. Without branches where all numbers have a bit of their own: either is likely there.
class Distinct {
  public:
    void choose(int64_t first, int64_t count, int64_t* candidates) {
        const int64_t limit = first + count;
        if (limit <= 64) return in_a_word(first, count, candidates);
        int64_t words = kWords;
        while (64 * words < limit && words < count) words *= 2;
        if (static_cast<int64_t>(bits_.size()) < words) bits_.resize(words);
        std::fill_n(bits_.data(), std::min(words, limit / 64 + 1), 0);
        if (limit <= 64 * words)
            in_bits<true>(first, count, 64 * words - 1, candidates);
        else
            in_bits<false>(first, count, 64 * words - 1, candidates);
    }

  private:
    static constexpr int64_t kWords = 16;

    static void in_a_word(int64_t first, int64_t count, int64_t* candidates) {
        uint64_t met = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t number = met >> candidates[i] & 1 ? first + i : candidates[i];
            met |= uint64_t{1} << number;
            candidates[i] = number;
        }
    }

    // If not Exact, a bit stands for all numbers that are the same modulo the number of bits, and where it is set,
    // those met are looked through.
    template <bool Exact>
    void in_bits(int64_t first, int64_t count, uint64_t mask, int64_t* candidates) {
        uint64_t* bits = bits_.data();
        for (int64_t i = 0; i < count; ++i) {
            int64_t number = candidates[i];
            bool met = bits[(number & mask) >> 6] >> (number & 63) & 1;
            if (!Exact && met) met = std::find(candidates, candidates + i, number) != candidates + i;
            number = met ? first + i : number;
            bits[(number & mask) >> 6] |= uint64_t{1} << (number & 63);
            candidates[i] = number;
        }
    }

    std::vector<uint64_t> bits_;
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
        Distinct distinct;
        for (int64_t i = begin; i < end; ++i) {
            const Row row = frontier.rows[i];
            const int64_t drawn = offsets[i + 1] - offsets[i];
            int64_t* mine = positions + offsets[i];
            if (!replace_ && row.degree <= fanout_) {
                std::iota(mine, mine + drawn, int64_t{0});
            } else {
                const uint64_t state = fold(state_, frontier.nodes[i]);
                // Of all numbers again and again, or of those up to the last ones, one after the other.
                const int64_t first = row.degree - drawn;
                for (int64_t j = 0; j < drawn; ++j)
                    mine[j] = bounded(fold(state, j), replace_ ? row.degree : first + j + 1);
                if (!replace_) distinct.choose(first, drawn, mine);
            }
            const float stands_for = static_cast<float>(row.degree) / static_cast<float>(drawn);
            for (int64_t j = 0; j < drawn; ++j) {
                mine[j] += row.start;
                frontier.prefetch(mine[j]);
                importance[offsets[i] + j] = stands_for;
            }
        }
    }

  private:
    const int64_t fanout_;
    const bool replace_;
    const uint64_t state_;
};

// Refuses weights of which one is wrong, whose sum is not finite or which are known to hold a negative one.
void check_weights(const float* weight, Row row, double sum, bool negative) {
    if (sum < std::numeric_limits<double>::infinity() && !negative) return;
    for (int64_t e = row.start; e < row.start + row.degree; ++e)
        if (!(weight[e] >= 0 && weight[e] < std::numeric_limits<float>::infinity()))
            throw std::invalid_argument("weight[" + std::to_string(e) + "] is no finite number of at least 0.");
}

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
            bool negative = false;
            for (int64_t e = 0; e < row.degree; ++e) {
                sums[e] = sum += weight[e];
                negative |= weight[e] < 0;
            }
            check_weights(weight_, row, sum, negative);
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

// The edges' priorities; gives the sum of their weights, rounded in any way, or no number where one is negative.
MULTIVERSION double find_priorities(const float* weight, int64_t count, uint64_t state, uint64_t first, double* out) {
    double sum = 0, least = 0;
#pragma omp simd reduction(+ : sum) reduction(min : least)
    for (int64_t e = 0; e < count; ++e) {
        const double w = weight[e];
        out[e] = w / (1 - uniform(fold(state, first + e)));
        sum += w;
        least = std::min(least, w);
    }
    return least < 0 ? std::numeric_limits<double>::quiet_NaN() : sum;
}

// How many of the others come before each: those that are larger, and equal ones that stand before it.
MULTIVERSION void find_ranks(const double* values, int64_t count, int64_t* ranks) {
    for (int64_t i = 0; i < count; ++i) ranks[i] = 0;
    for (int64_t j = 0; j < count; ++j) {
        const double value = values[j];
        for (int64_t i = 0; i < j; ++i) ranks[i] += value > values[i];
        for (int64_t i = j + 1; i < count; ++i) ranks[i] += value >= values[i];
    }
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
    // Of one row after the other.
    struct Scratch {
        std::vector<double> priorities;
        std::vector<int64_t> above, ranks;
        std::vector<double> sorted;
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
        check_weights(weight_, row, sum, false);
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
        for (int64_t i = 0; i < found; ++i) priorities[i] = priorities[above[i]];
        const double threshold = found > fanout_ ? cut(found, scratch) : 0;
        int64_t kept = 0;
        for (int64_t i = 0; i < found; ++i) {
            if (found > fanout_ && scratch.ranks[i] >= fanout_) continue;
            const int64_t position = row.start + above[i];
            positions[kept] = position;
            importance[kept++] = static_cast<float>(std::max(1.0, threshold / weight_[position]));
        }
    }

    // Ranks the priorities, and gives the largest that is not among the first `fanout_`.
    double cut(int64_t count, Scratch& scratch) const {
        constexpr int64_t kFew = 128;
        const double* priorities = scratch.priorities.data();
        scratch.ranks.resize(std::max<int64_t>(scratch.ranks.size(), count));
        int64_t* ranks = scratch.ranks.data();
        if (count <= kFew) {
            find_ranks(priorities, count, ranks);
            return priorities[std::find(ranks, ranks + count, fanout_) - ranks];
        }
        // Of many, no more is found out than which come first.
        scratch.sorted.assign(priorities, priorities + count);
        const auto last = scratch.sorted.begin() + fanout_;
        std::nth_element(scratch.sorted.begin(), last, scratch.sorted.end(), std::greater<>());
        const double threshold = *last;
        int64_t larger = std::count_if(priorities, priorities + count, [&](double p) { return p > threshold; });
        for (int64_t i = 0; i < count; ++i) {
            const bool first = priorities[i] > threshold || (priorities[i] == threshold && larger++ < fanout_);
            ranks[i] = first ? 0 : fanout_;
        }
        return threshold;
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
