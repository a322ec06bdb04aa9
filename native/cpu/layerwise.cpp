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

// Edges relabelled at a time: few enough to stay in the processor's closest cache.
constexpr int64_t kChunk = 2048;

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
Columns sum_columns(const Csc<Index>& graph, Nodes destinations, const Factors& factors) {
    NodeSet<Local> sources(graph.num_nodes);
    std::vector<double> sums;
    Local local[kChunk];
    for (int64_t i = 0; i < destinations.count; ++i) {
        ask_ahead(graph, destinations, i);
        const int64_t node = destinations.ids[i];
        check_node("destinations", i, node, graph.num_nodes);
        const int64_t start = graph.indptr[node], stop = graph.indptr[node + 1];
        check_row(graph, node, start, stop);
        const double row = scaled(1.0, factors.rows, node);
        for (int64_t begin = start; begin < stop; begin += kChunk) {
            const int64_t count = std::min(kChunk, stop - begin);
            for (int64_t e = 0; e < count; ++e) {
                check_node("indices", begin + e, graph.indices[begin + e], graph.num_nodes);
                local[e] = static_cast<Local>(graph.indices[begin + e]);
            }
            sources.relabel(local, count);
            sums.resize(sources.size(), 0.0);
            for (int64_t e = 0; e < count; ++e) {
                const double weight = factors.weight == nullptr ? 1.0 : factors.weight[begin + e];
                sums[local[e]] += row * (weight * weight);
            }
        }
    }
    Columns columns{sources.copy(), Buffer<double>(sources.size())};
    for (int64_t i = 0; i < sources.size(); ++i) {
        if (factors.columns && i + kAhead < sources.size())
            __builtin_prefetch(factors.columns + columns.sources[i + kAhead]);
        columns.sums[i] = scaled(sums[i], factors.columns, columns.sources[i]);
    }
    return columns;
}

// The positions not drawn yet that have a chance, and the cumulative chances.
struct Left {
    std::vector<int64_t> positions;
    std::vector<double> chances, cumulative;
    std::vector<bool> drawn;

    void add(int64_t position, double chance) {
        positions.push_back(position);
        chances.push_back(chance);
        cumulative.push_back(cumulative.empty() ? chance : cumulative.back() + chance);
    }
    void forget_drawn() {
        Left kept;
        for (size_t i = 0; i < positions.size(); ++i)
            if (!drawn[i]) kept.add(positions[i], chances[i]);
        *this = std::move(kept);
    }
};

}  // namespace

template <class Index>
Columns column_sums(const Csc<Index>& graph, Nodes destinations, const Factors& factors) {
    return graph.num_nodes <= INT32_MAX ? sum_columns<Index, int32_t>(graph, destinations, factors)
                                        : sum_columns<Index, int64_t>(graph, destinations, factors);
}

Buffer<int64_t> draw_in_succession(const double* chance, int64_t count, int64_t size, uint64_t key) {
    Left left;
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
            const double point = uniform(fold(state, i)) * cumulative.back();
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

template Columns column_sums(const Csc<int32_t>&, Nodes, const Factors&);
template Columns column_sums(const Csc<int64_t>&, Nodes, const Factors&);

}  // namespace gnnscale
