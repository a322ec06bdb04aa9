// Compiled without contraction of products and sums, whose rounding the reference would not share.
#include "layerwise.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "check_nodes.h"
#include "node_set.h"
#include "random.h"

namespace gnnscale {
namespace {

// Edges relabelled at a time: few enough to stay in the processor's cache.
constexpr size_t kChunk = 1 << 15;

double scaled(double value, const double* factors, int64_t node) {
    return factors == nullptr ? value : value * factors[node];
}

// Asks for the row pointers of destinations to come, and for the edges of nearer ones.
template <class Index>
void ask_ahead(const Csc<Index>& graph, Nodes destinations, int64_t i) {
    const auto known = [&](int64_t at) {
        return at < destinations.count && static_cast<uint64_t>(destinations.ids[at]) < uint64_t(graph.num_nodes);
    };
    if (known(i + 16)) __builtin_prefetch(graph.indptr + destinations.ids[i + 16]);
    if (known(i + 4)) __builtin_prefetch(graph.indices + graph.indptr[destinations.ids[i + 4]]);
}

template <class Index, class Local>
class ColumnSums {
  public:
    ColumnSums(const Csc<Index>& graph, Nodes destinations, const Factors& factors)
        : graph_(graph), destinations_(destinations), factors_(factors), sources_(graph.num_nodes) {}

    Columns run() {
        for (int64_t row = 0; row < destinations_.count;) row = add(row);
        Columns columns{sources_.copy(), Buffer<double>(sources_.size())};
        for (int64_t i = 0; i < sources_.size(); ++i) {
            if (factors_.columns && i + kAhead < sources_.size())
                __builtin_prefetch(factors_.columns + columns.sources[i + kAhead]);
            columns.sums[i] = scaled(sums_[i], factors_.columns, columns.sources[i]);
        }
        return columns;
    }

  private:
    // Adds the edges of a few rows from `row` on; gives the row after them.
    int64_t add(int64_t row) {
        edges_.clear();
        local_.clear();
        for (; row < destinations_.count && local_.size() < kChunk; ++row) {
            ask_ahead(graph_, destinations_, row);
            const int64_t node = destinations_.ids[row];
            check_node("destinations", row, node, graph_.num_nodes);
            const int64_t start = graph_.indptr[node], stop = graph_.indptr[node + 1];
            check_row(graph_, node, start, stop);
            for (int64_t e = start; e < stop; ++e) {
                check_node("indices", e, graph_.indices[e], graph_.num_nodes);
                local_.push_back(static_cast<Local>(graph_.indices[e]));
            }
            edges_.push_back({start, stop - start});
        }
        sources_.relabel(local_.data(), local_.size());
        sums_.resize(sources_.size(), 0.0);
        const Local* local = local_.data();
        for (size_t i = 0; i < edges_.size(); ++i) {
            const auto [start, degree] = edges_[i];
            const double value = scaled(1.0, factors_.rows, destinations_.ids[row - edges_.size() + i]);
            for (int64_t e = 0; e < degree; ++e) {
                const double weight = factors_.weight == nullptr ? 1.0 : factors_.weight[start + e];
                sums_[local[e]] += value * (weight * weight);
            }
            local += degree;
        }
        return row;
    }

    const Csc<Index>& graph_;
    const Nodes destinations_;
    const Factors& factors_;
    NodeSet<Local> sources_;
    std::vector<double> sums_;
    std::vector<Row> edges_;
    std::vector<Local> local_;
};

// The positions not drawn yet that have a chance, and the cumulative chances.
struct Left {
    std::vector<int64_t> positions;
    std::vector<double> chances, cumulative;
    std::vector<bool> drawn;
    double total = 0.0;

    void reserve(size_t size) {
        positions.reserve(size);
        chances.reserve(size);
        cumulative.reserve(size);
    }
    void add(int64_t position, double chance) {
        positions.push_back(position);
        chances.push_back(chance);
        total += chance;
        cumulative.push_back(total);
    }
    void forget_drawn() {
        Left kept;
        kept.reserve(positions.size());
        for (size_t i = 0; i < positions.size(); ++i)
            if (!drawn[i]) kept.add(positions[i], chances[i]);
        *this = std::move(kept);
    }
};

}  // namespace

template <class Index>
Columns column_sums(const Csc<Index>& graph, Nodes destinations, const Factors& factors) {
    return graph.num_nodes <= INT32_MAX ? ColumnSums<Index, int32_t>(graph, destinations, factors).run()
                                        : ColumnSums<Index, int64_t>(graph, destinations, factors).run();
}

Buffer<int64_t> draw_in_succession(const double* chance, int64_t count, int64_t size, uint64_t key) {
    Left left;
    left.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
        if (!(chance[i] >= 0 && std::isfinite(chance[i])))
            throw std::invalid_argument("chance[" + std::to_string(i) + "] is " + std::to_string(chance[i]) +
                                        "; chances are finite and at least 0.");
        if (chance[i] > 0) left.add(i, chance[i]);
    }
    const int64_t possible = left.positions.size();
    Buffer<int64_t> drawn(std::min(size, possible));
    if (possible <= size) {
        std::copy(left.positions.begin(), left.positions.end(), drawn.data());
        return drawn;
    }
    int64_t m = 0;
    for (uint64_t round = 0; m < size; ++round) {
        if (round) left.forget_drawn();
        const auto& cumulative = left.cumulative;
        const uint64_t state = fold(key, round);
        left.drawn.assign(left.positions.size(), false);
        for (int64_t i = 0, draws = 2 * (size - m) + 32; i < draws && m < size; ++i) {
            const double point = uniform(fold(state, i)) * left.total;
            int64_t at = std::upper_bound(cumulative.begin(), cumulative.end(), point) - cumulative.begin();
            // Rounding can carry a point to the total.
            at = std::min<int64_t>(at, cumulative.size() - 1);
            if (left.drawn[at]) continue;
            left.drawn[at] = true;
            drawn[m++] = left.positions[at];
        }
    }
    return drawn;
}

Counted draw_with_replacement(const double* cumulative, int64_t count, int64_t size, uint64_t key) {
    if (count == 0 || !(cumulative[count - 1] > 0)) return {};
    const double total = cumulative[count - 1];
    const int64_t last = std::lower_bound(cumulative, cumulative + count, total) - cumulative;
    std::vector<int64_t> draws(size);
    std::vector<double> points(size);
    for (int64_t i = 0; i < size; ++i) points[i] = uniform(fold(key, i)) * total;
    // In order, neighbouring searches read the same memory.
    std::sort(points.begin(), points.end());
    const double* from = cumulative;
    for (int64_t i = 0; i < size; ++i) {
        from = std::upper_bound(from, cumulative + count, points[i]);
        draws[i] = std::min<int64_t>(from - cumulative, last);
    }
    Counted counted{Buffer<int64_t>(size), Buffer<int64_t>(size)};
    int64_t distinct = 0;
    for (int64_t i = 0; i < size; ++i) {
        if (distinct == 0 || counted.positions[distinct - 1] != draws[i]) {
            counted.positions[distinct] = draws[i];
            counted.counts[distinct++] = 0;
        }
        ++counted.counts[distinct - 1];
    }
    counted.positions.resize(distinct);
    counted.counts.resize(distinct);
    return counted;
}

template Columns column_sums(const Csc<int32_t>&, Nodes, const Factors&);
template Columns column_sums(const Csc<int64_t>&, Nodes, const Factors&);

}  // namespace gnnscale
