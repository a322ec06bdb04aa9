#include "subgraph.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "check_nodes.h"
#include "member_map.h"
#include "node_set.h"
#include "parallel.h"

namespace gnnscale {
namespace {

constexpr int64_t kReadsPerThread = 32768;
// Rows whose edges are asked for before their turn, and how much of each: the processor sees where a longer row goes.
constexpr int64_t kRowsAhead = 8;
constexpr int64_t kLinesAhead = 4;
// Edges read before they are looked up: few enough to stay in the processor's cache.
constexpr int64_t kChunk = 4096;

// What one thread found in its rows, the first of which is `row`: places in the CSC arrays, and sources.
template <class Index>
struct Found {
    int64_t row = 0;
    int64_t size = 0;
    Buffer<int64_t> positions;
    Buffer<Index> sources;
    Buffer<Index> read;  // what is looked through

    void reserve(int64_t more) {
        const int64_t capacity = positions.size();
        if (size + more <= capacity) return;
        const int64_t wanted = std::max(size + more, 2 * capacity + 1024);
        positions.resize(wanted);
        sources.resize(wanted);
    }
};

template <class Index>
class Search {
  public:
    Search(const Csc<Index>& graph, Nodes destinations, Nodes sources, const char* name)
        : graph_(graph), members_(graph.num_nodes) {
        members_.fill(sources.ids, sources.count, name);
        find_rows(destinations);
    }

    Hop run(int num_threads, int64_t narrow_limit) {
        const int64_t count = starts_.size();
        offsets_.assign(count + 1, 0);
        // Threads share what is to be read: what is found is not known before.
        run_rows(reads_.data(), count, parts_for(reads_[count], kReadsPerThread, num_threads),
                 [&](int64_t begin, int64_t end) {
                     Found<Index> found;
                     found.row = begin;
                     for (int64_t row = begin; row < end;) row = scan(row, end, found);
                     std::lock_guard<std::mutex> lock(mutex_);
                     found_.push_back(std::move(found));
                 });
        std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
        return offsets_[count] <= narrow_limit ? result<int32_t>() : result<int64_t>();
    }

  private:
    void find_rows(Nodes destinations) {
        starts_.resize(destinations.count);
        reads_.resize(destinations.count + 1);
        reads_[0] = 0;
        for (int64_t i = 0; i < destinations.count; ++i) {
            if (i + kAhead < destinations.count) {
                const int64_t ahead = destinations.ids[i + kAhead];
                if (ahead >= 0 && ahead < graph_.num_nodes) __builtin_prefetch(graph_.indptr + ahead);
            }
            const int64_t node = destinations.ids[i];
            check_node("destinations", i, node, graph_.num_nodes);
            const int64_t start = graph_.indptr[node], stop = graph_.indptr[node + 1];
            check_row(graph_, node, start, stop);
            starts_[i] = start;
            reads_[i + 1] = reads_[i] + stop - start;
        }
    }

    int64_t degree(int64_t row) const { return reads_[row + 1] - reads_[row]; }

    // Looks through a few rows from `row` on; gives the row after them. First the sources are copied, with nothing else
    // that waits for memory, and then each is looked up.
    int64_t scan(int64_t row, int64_t end, Found<Index>& found) {
        int64_t stop = row, size = 0;
        while (stop < end && size < kChunk) {
            ask_for(stop + kRowsAhead, end);
            const int64_t more = degree(stop);
            if (size + more > static_cast<int64_t>(found.read.size())) found.read.resize(2 * (size + more) + kChunk);
            std::copy_n(graph_.indices + starts_[stop], more, found.read.data() + size);
            size += more;
            ++stop;
        }
        found.reserve(size);
        const Index* read = found.read.data();
        for (; row < stop; ++row) {
            look_up(row, read, found);
            read += degree(row);
        }
        return stop;
    }

    void ask_for(int64_t row, int64_t end) const {
        if (row >= end) return;
        const auto* edges = reinterpret_cast<const char*>(graph_.indices + starts_[row]);
        const int64_t bytes = std::min(degree(row) * int64_t{sizeof(Index)}, kLinesAhead * 64);
        for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(edges + line);
    }

    void look_up(int64_t row, const Index* read, Found<Index>& found) {
        const int64_t start = starts_[row], count = degree(row);
        const int64_t num_nodes = graph_.num_nodes;
        const uint64_t* bits = members_.bits();
        int64_t* positions = found.positions.data();
        Index* sources = found.sources.data();
        int64_t size = found.size;
        for (int64_t i = 0; i < count; ++i) {
            const Index node = read[i];
            check_node("indices", start + i, node, num_nodes);
            // Without a branch, which nobody could predict.
            positions[size] = start + i;
            sources[size] = node;
            size += bits[node >> 6] >> (node & 63) & 1;
        }
        offsets_[row + 1] = size - found.size;
        found.size = size;
    }

    template <class Id>
    Hop result() const {
        const int64_t count = starts_.size();
        Buffer<Id> indptr(count + 1), ids(offsets_[count]);
        Buffer<int64_t> positions(offsets_[count]);
        std::copy(offsets_.begin(), offsets_.end(), indptr.data());
        const int32_t* places = members_.places();
        run_parts(found_.size(), [&](int part) {
            const Found<Index>& found = found_[part];
            std::copy_n(found.positions.data(), found.size, positions.data() + offsets_[found.row]);
            Id* out = ids.data() + offsets_[found.row];
            const Index* sources = found.sources.data();
            for (int64_t e = 0; e < found.size; ++e) {
                if (e + kAhead < found.size) __builtin_prefetch(places + sources[e + kAhead]);
                out[e] = places[sources[e]];
            }
        });
        return {std::move(indptr), std::move(ids), std::move(positions), {}};
    }

    const Csc<Index>& graph_;
    MemberMap members_;
    std::vector<int64_t> starts_, reads_, offsets_;
    std::mutex mutex_;
    std::vector<Found<Index>> found_;
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
    return Search<Index>(graph, destinations, sources, "sources").run(num_threads, narrow_limit);
}

template <class Index>
LayerEdges edges_from(const Csc<Index>& graph, Nodes destinations, Nodes drawn, int num_threads, int64_t narrow_limit) {
    LayerEdges layer;
    layer.hop = Search<Index>(graph, destinations, drawn, "drawn").run(num_threads, narrow_limit);
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
