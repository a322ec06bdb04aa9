#include "draw_row.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

struct Count {
    Graph graph;
    Draw draw;
    const int64_t* nodes;
    int64_t* counts;

    DEVICE void operator()(int64_t i) const {
        const int64_t node = nodes[i];
        counts[i] = draw.count(read(graph.indptr + node + 1) - read(graph.indptr + node));
    }
};

// A warp a row.
struct DrawRow {
    Graph graph;
    Draw draw;
    const int64_t *nodes, *offsets;
    int64_t* positions;
    float* importance;

    DEVICE void operator()(int64_t row) const {
        const int64_t first = offsets[row];
        draw_row(graph, draw, nodes[row], positions + first, importance ? importance + first : nullptr);
    }
};

struct FindNew {
    Graph graph;
    const int64_t* positions;
    int32_t num_known;
    int32_t *places, *sources;

    DEVICE void operator()(int64_t e) const {
        const int64_t node = graph.indices[positions[e]];
        sources[e] = static_cast<int32_t>(node);
        // Those known have less. Of equal new ones, the first edge stays.
        lower(places + node, num_known + static_cast<int32_t>(e));
    }
};

struct MarkFirst {
    int32_t num_known;
    const int32_t *places, *sources;
    int32_t* is_first;

    DEVICE void operator()(int64_t e) const {
        is_first[e] = places[sources[e]] == num_known + static_cast<int32_t>(e);
    }
};

struct NumberNew {
    int32_t num_known;
    const int32_t *is_first, *ranks, *sources;
    int32_t* places;
    int64_t* nodes;

    DEVICE void operator()(int64_t e) const {
        if (!is_first[e]) return;
        const int32_t place = num_known + ranks[e] - 1;
        places[sources[e]] = place;
        nodes[place] = sources[e];
    }
};

struct Relabel {
    const int32_t* places;
    int32_t* sources;

    DEVICE void operator()(int64_t e) const { sources[e] = places[sources[e]]; }
};

}  // namespace

void count_edges(const Graph& graph, const Draw& draw, const int64_t* nodes, int64_t num_nodes, int64_t* counts,
                 Stream stream) {
    for_each(Count{graph, draw, nodes, counts}, num_nodes, stream);
}

void draw_edges(const Graph& graph, const Draw& draw, const int64_t* nodes, int64_t num_nodes,
                const int64_t* offsets, int64_t* positions, float* importance, Stream stream) {
    launch(DrawRow{graph, draw, nodes, offsets, positions, importance}, num_nodes, stream);
}

void find_new(const Graph& graph, const int64_t* positions, int64_t num_edges, int32_t num_known, int32_t* places,
              int32_t* sources, int32_t* is_first, Stream stream) {
    for_each(FindNew{graph, positions, num_known, places, sources}, num_edges, stream);
    for_each(MarkFirst{num_known, places, sources, is_first}, num_edges, stream);
}

void number_new(int32_t num_known, const int32_t* is_first, const int32_t* ranks, int64_t num_edges,
                int32_t* places, int64_t* nodes, int32_t* sources, Stream stream) {
    for_each(NumberNew{num_known, is_first, ranks, sources, places, nodes}, num_edges, stream);
    for_each(Relabel{places, sources}, num_edges, stream);
}

}  // namespace gnnscale::gpu
