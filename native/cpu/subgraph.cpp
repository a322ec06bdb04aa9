#include "subgraph.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "check_nodes.h"
#include "member_map.h"
#include "member_scan.h"
#include "node_set.h"
#include "parallel.h"
#include "team.h"

namespace gnnscale {
namespace {

// What a thread is worth starting for, in edges to be read.
constexpr int64_t kReadsPerThread = 16384;
// Destinations that a thread takes at once.
constexpr int64_t kRows = 128;
// How many edges, about, are asked for before their turn: as many lines as a processor can have under way, and some to
// spare. Of a long row only the beginning, as the processor then sees where it goes.
constexpr int64_t kEdgesAhead = 512;
constexpr int64_t kLinesAhead = 16;

// The edges are looked at twice: first each is marked that leaves one of the sources, a bit an edge, and counted; then
// the marked ones are written where they belong, so that nothing has to be moved.
template <class Index>
class Search {
  public:
    Search(const Csc<Index>& graph, Nodes destinations, Nodes sources, const char* name, int num_threads)
        : graph_(graph),
          destinations_(destinations),
          members_(graph.num_nodes),
          parts_(parts_for(expected_reads(), kReadsPerThread, num_threads)),
          team_(parts_),
          marks_(parts_),
          blocks_((destinations.count + kRows - 1) / kRows) {
        members_.fill(sources.ids, sources.count, name);
    }

    Hop run(int64_t narrow_limit) {
        std::atomic<int> threads{0};
        std::atomic<int64_t> next{0};
        team_.run(parts_, [&] {
            std::vector<uint64_t>& marks = marks_[threads.fetch_add(1)];
            for (int64_t b; (b = next.fetch_add(1)) < static_cast<int64_t>(blocks_.size());) mark(b, marks);
        });
        int64_t found = 0;
        for (Block& block : blocks_) block.first = std::exchange(found, found + block.first);
        return found <= narrow_limit ? write<int32_t>(found) : write<int64_t>(found);
    }

  private:
    struct Block {
        const std::vector<uint64_t>* marks;
        size_t begin;   // among these
        int64_t first;  // how many edges were found in it, and then in those before it
    };

    int64_t expected_reads() const {
        const double mean = graph_.num_nodes ? double(graph_.num_edges) / graph_.num_nodes : 0;
        return static_cast<int64_t>(destinations_.count * (1 + mean));
    }

    int64_t end_of(int64_t block) const { return std::min((block + 1) * kRows, destinations_.count); }

    // Puts down where each row of the block begins, how many edges it has, and their marks.
    void mark(int64_t number, std::vector<uint64_t>& marks) {
        const int64_t begin = number * kRows, size = end_of(number) - begin;
        Row rows[kRows];
        find_rows(begin, size, rows);
        blocks_[number] = {&marks, marks.size(), 0};
        int64_t asked = 0, ahead = 0;  // edges asked for that are still to come, and the row after them
        for (int64_t r = 0; r < size; ++r) {
            for (; ahead < size && asked < kEdgesAhead; asked += rows[ahead++].degree) ask_for(rows[ahead]);
            const auto [start, degree] = rows[r];
            asked -= degree;
            const size_t at = marks.size();
            marks.resize(at + 2 + (degree + 63) / 64);
            marks[at] = start;
            marks[at + 1] = degree;
            if (!mark_members(members_, graph_.num_nodes, graph_.indices + start, degree, &marks[at + 2]))
                refuse(start, degree);
            for (size_t word = at + 2; word < marks.size(); ++word)
                blocks_[number].first += __builtin_popcountll(marks[word]);
        }
    }

    void find_rows(int64_t begin, int64_t size, Row* rows) const {
        const int64_t* nodes = destinations_.ids + begin;
        for (int64_t i = 0; i < size; ++i) {
            if (static_cast<uint64_t>(nodes[i]) < static_cast<uint64_t>(graph_.num_nodes))
                __builtin_prefetch(graph_.indptr + nodes[i]);
        }
        for (int64_t i = 0; i < size; ++i) {
            check_node("destinations", begin + i, nodes[i], graph_.num_nodes);
            const int64_t start = graph_.indptr[nodes[i]], stop = graph_.indptr[nodes[i] + 1];
            check_row(graph_, nodes[i], start, stop);
            rows[i] = {start, stop - start};
        }
    }

    void ask_for(const Row& row) const {
        const auto* edges = reinterpret_cast<const char*>(graph_.indices + row.start);
        const int64_t bytes = std::min(row.degree * int64_t{sizeof(Index)}, kLinesAhead * 64);
        for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(edges + line);
    }

    void refuse(int64_t start, int64_t degree) const {
        for (int64_t e = start; e < start + degree; ++e) check_node("indices", e, graph_.indices[e], graph_.num_nodes);
    }

    template <class Id>
    Hop write(int64_t found) {
        Buffer<Id> indptr(destinations_.count + 1), ids(found);
        Buffer<int64_t> positions(found);
        indptr[0] = 0;
        team_.run(blocks_.size(), 1, parts_, [&](int64_t number, int64_t) {
            const Block& block = blocks_[number];
            const uint64_t* marks = block.marks->data() + block.begin;
            int64_t size = block.first;
            for (int64_t row = number * kRows; row < end_of(number); ++row) {
                const int64_t start = marks[0], degree = marks[1];
                size += write_members(members_, graph_.indices + start, degree, marks + 2, start, ids.data() + size,
                                      positions.data() + size);
                indptr[row + 1] = static_cast<Id>(size);
                marks += 2 + (degree + 63) / 64;
            }
        });
        return {std::move(indptr), std::move(ids), std::move(positions), {}};
    }

    const Csc<Index>& graph_;
    const Nodes destinations_;
    MemberMap members_;
    const int parts_;
    Team team_;
    std::vector<std::vector<uint64_t>> marks_;  // of each thread
    std::vector<Block> blocks_;
};

// The layer's nodes; `places` are filled in where they are not -1.
Buffer<int64_t> number(Nodes destinations, Nodes drawn, Buffer<int32_t>& places, int64_t num_nodes) {
    MemberMap known(num_nodes);
    known.fill(destinations.ids, destinations.count, "destinations");
    Buffer<int64_t> nodes(destinations.count + drawn.count);
    std::copy_n(destinations.ids, destinations.count, nodes.data());
    int64_t size = destinations.count;
    for (int64_t i = 0; i < drawn.count; ++i) {
        if (places[i] < 0) continue;
        if (known.has(drawn.ids[i])) {
            places[i] = known.place(drawn.ids[i]);
        } else {
            nodes[size] = drawn.ids[i];
            places[i] = static_cast<int32_t>(size++);
        }
    }
    nodes.resize(size);
    return nodes;
}

// `Id` holds any node's id.
template <class Id>
std::pair<Buffer<int64_t>, Buffer<int32_t>> append(Nodes seeds, Nodes ids, int64_t num_nodes) {
    NodeSet<int32_t> nodes(num_nodes);
    nodes.add_seeds(seeds.ids, seeds.count);
    Buffer<Id> places(ids.count);
    for (int64_t i = 0; i < ids.count; ++i) {
        check_node("ids", i, ids.ids[i], num_nodes);
        places[i] = static_cast<Id>(ids.ids[i]);
    }
    nodes.relabel(places.data(), ids.count);
    if constexpr (sizeof(Id) == sizeof(int32_t)) {
        return {nodes.copy(), std::move(places)};
    } else {
        Buffer<int32_t> narrow(ids.count);
        std::copy_n(places.data(), ids.count, narrow.data());
        return {nodes.copy(), std::move(narrow)};
    }
}

}  // namespace

template <class Index>
Hop edges_between(const Csc<Index>& graph, Nodes destinations, Nodes sources, int num_threads, int64_t narrow_limit) {
    return Search<Index>(graph, destinations, sources, "sources", num_threads).run(narrow_limit);
}

template <class Index>
LayerEdges edges_from(const Csc<Index>& graph, Nodes destinations, Nodes drawn, int num_threads, int64_t narrow_limit) {
    LayerEdges layer;
    layer.hop = Search<Index>(graph, destinations, drawn, "drawn", num_threads).run(narrow_limit);
    layer.places = Buffer<int32_t>(drawn.count);
    std::fill_n(layer.places.data(), drawn.count, -1);
    std::visit(
        [&](auto& ids) {
            for (size_t e = 0; e < ids.size(); ++e) layer.places[ids[e]] = 0;
            layer.nodes = number(destinations, drawn, layer.places, graph.num_nodes);
            auto origins = std::move(ids);
            ids.resize(origins.size());
            for (size_t e = 0; e < ids.size(); ++e) ids[e] = layer.places[origins[e]];
            layer.origins = std::move(origins);
        },
        layer.hop.indices);
    return layer;
}

Buffer<int64_t> distinct_nodes(Nodes ids, int64_t num_nodes) {
    // A bit a node: read in order, it gives the nodes in order.
    std::vector<uint64_t> bits((num_nodes + 63) / 64, 0);
    for (int64_t i = 0; i < ids.count; ++i) {
        const int64_t node = ids.ids[i];
        if (node == -1) continue;
        check_node("ids", i, node, num_nodes);
        bits[node >> 6] |= uint64_t{1} << (node & 63);
    }
    Buffer<int64_t> nodes(std::min(ids.count, num_nodes));
    int64_t size = 0;
    for (size_t word = 0; word < bits.size(); ++word)
        for (uint64_t left = bits[word]; left; left &= left - 1) nodes[size++] = word * 64 + __builtin_ctzll(left);
    nodes.resize(size);
    return nodes;
}

std::pair<Buffer<int64_t>, Buffer<int32_t>> append_nodes(Nodes seeds, Nodes ids, int64_t num_nodes) {
    if (seeds.count + ids.count > INT32_MAX)
        throw std::invalid_argument("seeds and ids hold " + std::to_string(seeds.count + ids.count) +
                                    " nodes together; at most 2^31 - 1 can be numbered.");
    return num_nodes <= INT32_MAX ? append<int32_t>(seeds, ids, num_nodes) : append<int64_t>(seeds, ids, num_nodes);
}

template Hop edges_between(const Csc<int32_t>&, Nodes, Nodes, int, int64_t);
template Hop edges_between(const Csc<int64_t>&, Nodes, Nodes, int, int64_t);
template LayerEdges edges_from(const Csc<int32_t>&, Nodes, Nodes, int, int64_t);
template LayerEdges edges_from(const Csc<int64_t>&, Nodes, Nodes, int, int64_t);

}  // namespace gnnscale
