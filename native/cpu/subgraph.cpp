#include "subgraph.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "check_nodes.h"
#include "free_list.h"
#include "member_map.h"
#include "member_scan.h"
#include "node_set.h"
#include "parallel.h"
#include "team.h"

namespace gnnscale {
namespace {

// What a thread is worth starting for, in edges to be read.
constexpr int64_t kReadsPerThread = 16384, kRowsPerThread = 4096;
// Destinations that a thread takes at once.
constexpr int64_t kRows = 128;
// How many edges, about, are asked for before their turn: as many lines as a processor can have under way, and some to
// spare. Of a long row only the beginning, as the processor then sees where it goes.
constexpr int64_t kEdgesAhead = 512;
constexpr int64_t kLinesAhead = 16;

// What was found in a block of destinations: sources, first their ids and then their places, positions in the CSC
// arrays, and where each row ends. Small enough to stay in the processor's cache until it is put where it belongs.
template <class Index>
struct Found {
    int64_t size;
    Buffer<Index> sources;
    Buffer<int64_t> positions;
    int64_t ends[kRows];

    void reserve(int64_t most) {
        size = 0;
        if (most + kScanSlack <= static_cast<int64_t>(positions.size())) return;
        sources = Buffer<Index>(most + kScanSlack);
        positions = Buffer<int64_t>(most + kScanSlack);
    }
};

template <class Index>
class Search {
  public:
    Search(const Csc<Index>& graph, Nodes destinations, Nodes sources, const char* name, int num_threads)
        : graph_(graph),
          destinations_(destinations),
          members_(graph.num_nodes),
          team_(num_threads),
          parts_(num_threads),
          rows_(destinations.count),
          found_(blocks()) {
        members_.fill(sources.ids, sources.count, name);
    }

    Hop run(int64_t narrow_limit) {
        const int64_t reads = find_rows();
        return reads <= narrow_limit ? find<int32_t>(reads, narrow_limit) : find<int64_t>(reads, narrow_limit);
    }

  private:
    int64_t blocks() const { return (destinations_.count + kRows - 1) / kRows; }
    int64_t end_of(int64_t block) const { return std::min((block + 1) * kRows, destinations_.count); }

    // Where the destinations' edges stand; gives how many there are.
    int64_t find_rows() {
        std::atomic<int64_t> edges{0};
        const int64_t* nodes = destinations_.ids;
        const int parts = parts_for(destinations_.count, kRowsPerThread, parts_);
        team_.run(destinations_.count, kRowsPerThread, parts, [&](int64_t begin, int64_t end) {
            int64_t sum = 0;
            for (int64_t i = begin; i < end; ++i) {
                if (i + kAhead < end) {
                    const int64_t ahead = nodes[i + kAhead];
                    if (ahead >= 0 && ahead < graph_.num_nodes) __builtin_prefetch(graph_.indptr + ahead);
                }
                check_node("destinations", i, nodes[i], graph_.num_nodes);
                const int64_t start = graph_.indptr[nodes[i]], stop = graph_.indptr[nodes[i] + 1];
                check_row(graph_, nodes[i], start, stop);
                rows_[i] = {start, stop - start};
                sum += stop - start;
            }
            edges += sum;
        });
        return edges;
    }

    // Threads take blocks, and whichever is at it puts what was found in those that are done where it belongs, in their
    // order. There is room for everything that is read: memory that nobody writes to costs nothing.
    template <class Room>
    Hop find(int64_t reads, int64_t narrow_limit) {
        Buffer<Room> indptr(destinations_.count + 1), ids(reads);
        Buffer<int64_t> positions(reads);
        int64_t total = 0;
        indptr[0] = 0;
        InOrder putting(blocks());
        const auto put = [&](int64_t block) {
            const Found<Index>& found = *found_[block];
            std::copy_n(found.sources.data(), found.size, ids.data() + total);
            std::copy_n(found.positions.data(), found.size, positions.data() + total);
            const int64_t begin = block * kRows, end = end_of(block);
            for (int64_t row = begin; row < end; ++row)
                indptr[row + 1] = static_cast<Room>(total + found.ends[row - begin]);
            total += found.size;
            free_.give(std::move(found_[block]));
        };
        team_.run(blocks(), 1, parts_for(reads, kReadsPerThread, parts_), [&](int64_t block, int64_t) {
            found_[block] = free_.take();
            if (!found_[block]) found_[block] = std::make_unique<Found<Index>>();
            look_through(block, *found_[block]);
            putting.end(block, put);
        });
        ids.resize(total);
        positions.resize(total);
        if (2 * total >= reads && (sizeof(Room) == sizeof(int32_t) || total > narrow_limit))
            return {std::move(indptr), std::move(ids), std::move(positions), {}};
        if (total <= narrow_limit) return {copy<int32_t>(indptr), copy<int32_t>(ids), copy<int64_t>(positions), {}};
        return {std::move(indptr), copy<int64_t>(ids), copy<int64_t>(positions), {}};
    }

    template <class To, class From>
    static Buffer<To> copy(const Buffer<From>& values) {
        Buffer<To> copied(values.size());
        std::copy_n(values.data(), values.size(), copied.data());
        return copied;
    }

    void look_through(int64_t block, Found<Index>& found) const {
        const Row* rows = rows_.data() + block * kRows;
        const int64_t count = end_of(block) - block * kRows;
        int64_t reads = 0;
        for (int64_t r = 0; r < count; ++r) reads += rows[r].degree;
        found.reserve(reads);
        const Scan scan{members_.bits(), static_cast<uint64_t>(graph_.num_nodes)};
        int64_t asked = 0, ahead = 0;  // edges asked for that are still to come, and the row after them
        for (int64_t r = 0; r < count; ++r) {
            for (; ahead < count && asked < kEdgesAhead; asked += rows[ahead++].degree) ask_for(rows[ahead]);
            const auto [start, degree] = rows[r];
            asked -= degree;
            if (!scan.row(graph_.indices + start, degree, start, found.sources.data(), found.positions.data(),
                          found.size))
                refuse(start, degree);
            found.ends[r] = found.size;
        }
        const int32_t* places = members_.places();
        Index* sources = found.sources.data();
        for (int64_t e = 0; e < found.size; ++e) {
            if (e + kAhead < found.size) __builtin_prefetch(places + sources[e + kAhead]);
            sources[e] = places[sources[e]];
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

    using Owned = std::unique_ptr<Found<Index>>;

    const Csc<Index>& graph_;
    const Nodes destinations_;
    MemberMap members_;
    Team team_;
    const int parts_;
    Buffer<Row> rows_;
    std::vector<Owned> found_;  // of blocks that are not put in their place yet
    FreeList<Owned> free_;
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
    NodeSet<Id> nodes(num_nodes);
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
