// R-MAT graphs (Chakrabarti, Zhan and Faloutsos, SDM 2004) as CSC, built in place.
//
// Contract (the torch reference computes the same, bit for bit):
// - Draw i in [0, draws) is a cell of a matrix of 2^levels rows. Half words choose four levels each, the
//   highest first: those of fold(fold(key, i), 0), its low half before its high half, then those of
//   fold(fold(key, i), 1), and so on; levels too many are cut off at the low end.
// - A half word h takes entry t = table[h % 256] of an alias table (Walker 1977): with h >> 8 < t >> 8 the
//   outcome is h % 256, else t % 256. Its high four bits go to the row, its low four to the column.
// - Cells outside the first `num_nodes` rows and columns, or on the diagonal, are no edges. Cell (r, c) is
//   the edge from relabel[r] to relabel[c], and the reverse too unless `directed`.
// - Of an edge drawn twice there is one. Of more than `most` distinct edges (pairs of nodes, unless
//   `directed`) those stay for which fold(fold(key, -1), u num_nodes + v) is smallest, u < v unless
//   `directed`; they are distinct, as fold is one to one in its counter.
// - In-neighbours of a node are in ascending order.
//
// The draws are made twice: to count the rows' lengths, and to fill them. So nothing but the result is ever
// in memory, with the edges that were drawn twice.
#pragma once

#include <cstdint>

#include "buffer.h"

namespace gnnscale {

struct Rmat {
    int64_t num_nodes;
    int levels;               // at most 31
    const int64_t* table;     // (256,)
    const int32_t* relabel;   // (num_nodes,), a permutation
    uint64_t key;
    int64_t draws;
    int64_t most;
    bool directed;
    int num_threads;
};

struct RmatGraph {
    Buffer<int64_t> indptr;
    Buffer<int32_t> indices;
    int64_t found;  // distinct edges (pairs, unless directed), before some were left out
};

RmatGraph draw_rmat(const Rmat& rmat);

}  // namespace gnnscale
