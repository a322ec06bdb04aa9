// The sentences for ids that are no nodes and arrays that are no CSC, wherever they are read.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "sampling.h"

namespace gnnscale {

// Apart from the check, and known not to return, so that a loop that checks keeps its registers.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_no_node(const char* name, int64_t place, int64_t node,
                                                                 int64_t num_nodes) {
    throw std::invalid_argument(std::string(name) + "[" + std::to_string(place) + "] is " + std::to_string(node) +
                                "; node ids of this graph are 0 to " + std::to_string(num_nodes - 1) + ".");
}

inline void check_node(const char* name, int64_t place, int64_t node, int64_t num_nodes) {
    if (static_cast<uint64_t>(node) >= static_cast<uint64_t>(num_nodes)) throw_no_node(name, place, node, num_nodes);
}

template <class Index>
void check_row(const Csc<Index>& graph, int64_t node, int64_t start, int64_t stop) {
    if (start >= 0 && start <= stop && stop <= graph.num_edges) return;
    throw std::invalid_argument("indptr is no CSC pointer array: the edges of node " + std::to_string(node) +
                                " would stand from " + std::to_string(start) + " to " + std::to_string(stop) +
                                ", where indices has " + std::to_string(graph.num_edges) + ".");
}

}  // namespace gnnscale
