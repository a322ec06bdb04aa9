// The edges that a warp draws of a node, all alike.
#pragma once

#include "random.h"
#include "sampling.h"

namespace gnnscale::gpu {

// Their positions and, where given, their importance. Floyd's algorithm (native/cpu/rules.cpp) draws its candidates all at
// once; then one after another gives way to the last number that it may be if it is among those before it, which the lanes
// look through together.
DEVICE void draw_row(const Graph& graph, const Draw& draw, int64_t node, int64_t* positions, float* importance) {
    const int64_t start = read(graph.indptr + node);
    const int64_t degree = read(graph.indptr + node + 1) - start, drawn = draw.count(degree);
    const bool all = draw.fanout < 0 || (!draw.replace && degree <= draw.fanout);
    const int64_t first = draw.replace ? 0 : degree - drawn;
    const uint64_t state = fold(draw.state, static_cast<uint64_t>(node));
    each_lane([&](int lane) {
        for (int64_t j = lane; j < drawn; j += kLanes) {
            positions[j] = start + (all ? j : bounded(fold(state, j), draw.replace ? degree : first + j + 1));
            if (importance) importance[j] = static_cast<float>(degree) / static_cast<float>(drawn);
        }
    });
    if (all || draw.replace) return;
    for (int64_t j = 1; j < drawn; ++j) {
        meet();
        const int64_t candidate = positions[j];
        PerLane<uint32_t> met;
        each_lane([&](int lane) {
            met[lane] = 0;
            for (int64_t i = lane; i < j; i += kLanes) met[lane] |= positions[i] == candidate;
        });
        const bool any = any_lane(met);
        each_lane([&](int lane) {
            if (lane == 0 && any) positions[j] = start + first + j;
        });
    }
}

}  // namespace gnnscale::gpu
