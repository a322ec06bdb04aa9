// Compiled without contraction of products and sums, whose rounding the reference would not share.
#include "layerwise.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "check_nodes.h"
#include "free_list.h"
#include "node_set.h"
#include "ordered_sums.h"
#include "parallel.h"
#include "prefetch.h"
#include "random.h"
#include "team.h"

namespace gnnscale {
namespace {

// Destinations whose edges a thread reads at once, and what a thread is worth its while, in edges.
constexpr int64_t kRows = 32;
constexpr int64_t kReadsPerThread = 4096;
// Rows whose edges are asked for before their turn, and how much of each: the processor sees where a longer row goes.
constexpr int64_t kRowsAhead = 8;
constexpr int64_t kBytesAhead = 256;
constexpr int64_t kDrawsAhead = 16;

template <class Index, class Local>
class ColumnSums {
  public:
    ColumnSums(const Csc<Index>& graph, Nodes destinations, const Factors& factors, int num_threads)
        : graph_(graph), destinations_(destinations), factors_(factors), num_threads_(num_threads),
          sources_(graph.num_nodes), rows_(destinations.count), values_(factors.rows ? destinations.count : 0),
          read_(blocks()) {}

    // Threads read blocks of rows, and whichever is at it adds those that have been read, in their order.
    Columns run() {
        const int64_t total = find_rows(), most = std::min(total, graph_.num_nodes);
        sources_.reserve(most);
        sums_.resize(most);
        InOrder adding(blocks());
        const auto follow = [&](int64_t block) { add(block); };
        Team(num_threads_).run(blocks(), 1, parts_for(total, kReadsPerThread, num_threads_), [&](int64_t block, int64_t) {
            read(block);
            adding.end(block, follow);
        });
        const int64_t size = sources_.size();
        sums_.resize(size);
        Columns found{sources_.take(), std::move(sums_)};
        if (factors_.columns == nullptr) return found;
        for (int64_t i = 0; i < size; ++i) {
            if (i + kAhead < size) __builtin_prefetch(factors_.columns + found.sources[i + kAhead]);
            found.sums[i] *= factors_.columns[found.sources[i]];
        }
        return found;
    }

  private:
    int64_t blocks() const { return (destinations_.count + kRows - 1) / kRows; }
    int64_t end_of(int64_t block) const { return std::min((block + 1) * kRows, destinations_.count); }

    // Where the edges of the destinations stand; gives how many there are.
    int64_t find_rows() {
        int64_t total = 0;
        for (int64_t i = 0; i < destinations_.count; ++i) {
            if (i + kAhead < destinations_.count) {
                const int64_t ahead = destinations_.ids[i + kAhead];
                if (static_cast<uint64_t>(ahead) < static_cast<uint64_t>(graph_.num_nodes)) {
                    __builtin_prefetch(graph_.indptr + ahead);
                    if (factors_.rows) __builtin_prefetch(factors_.rows + ahead);
                }
            }
            const int64_t node = destinations_.ids[i];
            check_node("destinations", i, node, graph_.num_nodes);
            const int64_t start = graph_.indptr[node], stop = graph_.indptr[node + 1];
            check_row(graph_, node, start, stop);
            rows_[i] = {start, stop - start};
            if (factors_.rows) values_[i] = factors_.rows[node];
            total += stop - start;
        }
        return total;
    }

    void ask_for(int64_t row) const {
        const auto [start, degree] = rows_[row];
        const int64_t bytes = std::min(degree * int64_t{sizeof(Index)}, kBytesAhead);
        prefetch(graph_.indices + start, bytes);
        if (factors_.weight) prefetch(factors_.weight + start, bytes);
    }

    // Copies the sources of a block's rows, and asks for their places in the map.
    void read(int64_t block) {
        const int64_t begin = block * kRows, end = end_of(block);
        int64_t edges = 0;
        for (int64_t row = begin; row < end; ++row) edges += rows_[row].degree;
        Buffer<Local> sources = free_.take();
        sources.resize(edges);
        Local* local = sources.data();
        for (int64_t row = begin; row < std::min(begin + kRowsAhead, end); ++row) ask_for(row);
        for (int64_t row = begin; row < end; ++row) {
            if (row + kRowsAhead < end) ask_for(row + kRowsAhead);
            read(rows_[row], local);
            local += rows_[row].degree;
        }
        sources_.prefetch(sources.data(), edges);
        read_[block] = std::move(sources);
    }

    // What is wrong among them is looked for afterwards.
    void read(Row row, Local* out) const {
        const Index* sources = graph_.indices + row.start;
        const auto limit = static_cast<uint64_t>(graph_.num_nodes);
        bool wrong = false;
        for (int64_t e = 0; e < row.degree; ++e) {
            out[e] = static_cast<Local>(sources[e]);
            wrong |= static_cast<uint64_t>(sources[e]) >= limit;
        }
        if (wrong)
            for (int64_t e = 0; e < row.degree; ++e)
                check_node("indices", row.start + e, sources[e], graph_.num_nodes);
    }

    // Numbers the sources of a block that has been read, and adds up its edges.
    void add(int64_t block) {
        Buffer<Local> sources = std::move(read_[block]);
        Local* local = sources.data();
        const int64_t known = sources_.size();
        sources_.relabel_reserved(local, sources.size());
        double* sums = sums_.data();
        std::fill(sums + known, sums + sources_.size(), 0.0);
        for (int64_t r = block * kRows; r < end_of(block); ++r) {
            const auto [start, degree] = rows_[r];
            const double value = factors_.rows ? values_[r] : 1.0;
            if (factors_.weight) {
                for (int64_t e = 0; e < degree; ++e) {
                    const double weight = factors_.weight[start + e];
                    sums[local[e]] += value * (weight * weight);
                }
            } else {
                for (int64_t e = 0; e < degree; ++e) sums[local[e]] += value;
            }
            local += degree;
        }
        free_.give(std::move(sources));
    }

    const Csc<Index>& graph_;
    const Nodes destinations_;
    const Factors& factors_;
    const int num_threads_;
    NodeSet<Local> sources_;
    Buffer<Row> rows_;
    Buffer<double> values_, sums_;  // a factor for each row; a sum for each source
    std::vector<Buffer<Local>> read_;  // the sources of the blocks that are to be added
    FreeList<Buffer<Local>> free_;
};

// The first of increasing numbers above `point`; without branches, which nobody could predict.
int64_t first_above(const double* numbers, int64_t count, double point) {
    const double* from = numbers;
    while (count > 1) {
        const int64_t half = count / 2;
        from += from[half - 1] > point ? 0 : half;
        count -= half;
    }
    return from - numbers + (count == 1 && !(*from > point));
}

[[noreturn]] void throw_no_rows(int64_t num_edges) {
    throw std::invalid_argument("indptr is no pointer array: it has to rise from 0 to the number of values (" +
                                std::to_string(num_edges) + ").");
}

// Chances added up, of the positions that are left.
class Left {
  public:
    Left(const double* chance, int64_t count) : chance_(chance), count_(count), cumulative_(count), drawn_(count) {
        std::fill_n(drawn_.data(), count, false);
        for (int64_t i = 0; i < count; ++i) {
            if (!(chance[i] >= 0 && std::isfinite(chance[i])))
                throw std::invalid_argument("chance[" + std::to_string(i) + "] is " + std::to_string(chance[i]) +
                                            "; chances are finite and at least 0.");
            possible_ += chance[i] > 0;
        }
    }

    int64_t possible() const { return possible_; }

    // Leaves out what was drawn so far; nothing, added to a sum, does not change it.
    void add_up() {
        const auto left = [&](int64_t i) {
            const double chance = drawn_[i] ? 0.0 : chance_[i];
            last_ = chance > 0 ? i : last_;
            return chance;
        };
        total_ = add_up_in_blocks(left, count_, cumulative_.data());
    }

    // The position that a number in [0, 1) stands for; rounding can carry it to the total.
    int64_t at(double number) const {
        return std::min(first_above(cumulative_.data(), count_, number * total_), last_);
    }

    // Whether this is the first time.
    bool draw(int64_t position) { return !std::exchange(drawn_[position], true); }

  private:
    const double* chance_;
    const int64_t count_;
    Buffer<double> cumulative_;
    Buffer<bool> drawn_;
    double total_ = 0.0;
    int64_t possible_ = 0, last_ = 0;
};

}  // namespace

template <class Index>
Columns column_sums(const Csc<Index>& graph, Nodes destinations, const Factors& factors, int num_threads) {
    return graph.num_nodes <= INT32_MAX ? ColumnSums<Index, int32_t>(graph, destinations, factors, num_threads).run()
                                        : ColumnSums<Index, int64_t>(graph, destinations, factors, num_threads).run();
}

Buffer<double> cumulative_sums(const double* values, int64_t count) {
    Buffer<double> sums(count);
    add_up_in_blocks([&](int64_t i) { return values[i]; }, count, sums.data());
    return sums;
}

Buffer<int64_t> draw_in_succession(const double* chance, int64_t count, int64_t size, uint64_t key) {
    Left left(chance, count);
    Buffer<int64_t> drawn(std::min(size, left.possible()));
    int64_t m = 0;
    if (left.possible() <= size) {
        for (int64_t i = 0; i < count; ++i)
            if (chance[i] > 0) drawn[m++] = i;
        return drawn;
    }
    for (uint64_t round = 0; m < size; ++round) {
        left.add_up();
        const uint64_t state = fold(key, round);
        for (int64_t i = 0, draws = 2 * (size - m) + 32; i < draws && m < size; ++i) {
            const int64_t position = left.at(uniform(fold(state, i)));
            if (left.draw(position)) drawn[m++] = position;
        }
    }
    return drawn;
}

Counted draw_with_replacement(const Cumulative& chances, int64_t size, uint64_t key) {
    const double* cumulative = chances.sums;
    const int64_t* guide = chances.guide;
    const int64_t count = chances.count, buckets = chances.buckets;
    if (count == 0 || !(cumulative[count - 1] > 0)) return {};
    const double total = cumulative[count - 1];
    const int64_t last = std::lower_bound(cumulative, cumulative + count, total) - cumulative;
    Buffer<double> numbers(size);
    for (int64_t i = 0; i < size; ++i) numbers[i] = uniform(fold(key, i));
    // In order, neighbouring searches read the same memory, and what is drawn comes as it is wanted.
    std::sort(numbers.data(), numbers.data() + size);
    const auto bucket = [&](int64_t i) {
        return std::min(static_cast<int64_t>(numbers[i] * static_cast<double>(buckets)), buckets - 1);
    };
    const auto known = [&](int64_t at) { return std::clamp<int64_t>(at, 0, count); };
    Counted counted{Buffer<int64_t>(size), Buffer<int64_t>(size)};
    int64_t distinct = 0;
    for (int64_t i = 0; i < size; ++i) {
        if (guide && i + 2 * kDrawsAhead < size) __builtin_prefetch(guide + bucket(i + 2 * kDrawsAhead));
        if (guide && i + kDrawsAhead < size)
            __builtin_prefetch(cumulative + known(guide[bucket(i + kDrawsAhead)]));
        const double point = numbers[i] * total;
        int64_t from = guide ? known(guide[bucket(i)]) : 0;
        int64_t to = guide ? known(guide[bucket(i) + 1]) : count;
        // A guide that is not that of these sums shows here.
        if (from > to || (from > 0 && !(cumulative[from - 1] <= point)) || (to < count && !(cumulative[to] > point)))
            from = 0, to = count;
        const int64_t draw = std::min(from + first_above(cumulative + from, to - from, point), last);
        if (distinct == 0 || counted.positions[distinct - 1] != draw) {
            counted.positions[distinct] = draw;
            counted.counts[distinct++] = 0;
        }
        ++counted.counts[distinct - 1];
    }
    counted.positions.resize(distinct);
    counted.counts.resize(distinct);
    return counted;
}

template <class Id>
Buffer<double> fill_rows(const Rows<Id>& rows, const double* values, const float* weight, const float* totals) {
    Buffer<double> filled(rows.num_edges);
    if (rows.indptr[0] != 0 || static_cast<int64_t>(rows.indptr[rows.count]) != rows.num_edges)
        throw_no_rows(rows.num_edges);
    for (int64_t row = 0; row < rows.count; ++row) {
        const int64_t start = rows.indptr[row], stop = rows.indptr[row + 1];
        if (stop < start || stop > rows.num_edges) throw_no_rows(rows.num_edges);
        double sum = 0.0;
        for (int64_t e = start; e < stop; ++e) sum += weight ? values[e] * weight[e] : values[e];
        const double scale = sum > 0 ? totals[row] / sum : 0.0;
        for (int64_t e = start; e < stop; ++e) filled[e] = values[e] * scale;
    }
    return filled;
}

template Columns column_sums(const Csc<int32_t>&, Nodes, const Factors&, int);
template Columns column_sums(const Csc<int64_t>&, Nodes, const Factors&, int);
template Buffer<double> fill_rows(const Rows<int32_t>&, const double*, const float*, const float*);
template Buffer<double> fill_rows(const Rows<int64_t>&, const double*, const float*, const float*);

}  // namespace gnnscale
