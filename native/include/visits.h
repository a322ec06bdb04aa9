// How often walks visited which nodes.
//
// Contract (gnnscale/ops/reference/ computes the same, bit for bit): row r of `visited` holds nodes, -1 for nothing. Of
// its distinct nodes but `own[r]`, the `limit` that it holds most often are kept, all of them if `limit` is -1; of equal
// ones those with the larger uniform(fold(fold(key, r), node)), and then the smaller node. They come in ascending order,
// with their counts; `indptr` says where each row begins.
#pragma once

#include <cstdint>

#include "buffer.h"

namespace gnnscale {

struct Visits {
    const int64_t* visited;  // (rows, width)
    int64_t rows;
    int64_t width;
    const int64_t* own;  // (rows,) or null
};

struct Visited {
    Buffer<int64_t> indptr;
    Buffer<int64_t> nodes;
    Buffer<int64_t> counts;
};

Visited top_visits(const Visits& visits, int64_t limit, uint64_t key, int num_threads);

}  // namespace gnnscale
