// The Python face of neighbour sampling's steps.
#include "bind.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

using Words = TensorView<int32_t, 1, Device>;
using Pointers64 = Reached<int64_t, 1>;
using AnyIntegers = Reached<void, 1>;

Graph graph_of(const Pointers64& indptr, const AnyIntegers& indices) {
    const auto dtype = std::visit([](const auto& view) { return view.dtype(); }, indices);
    const bool wide = dtype == nb::dtype<int64_t>();
    require(wide || dtype == nb::dtype<int32_t>(), "indices must be int32 or int64.");
    return {address(indptr), {address(indices), wide}};
}

void bind_count_edges(const Pointers64& indptr, const AnyIntegers& indices, int64_t fanout, bool replace,
                      uint64_t state, const Numbers& nodes, const Numbers& counts, Stream stream) {
    require(counts.size() >= nodes.size(), "counts are too few.");
    const OnDevice device(nodes.device_id());
    count_edges(graph_of(indptr, indices), {fanout, replace, state}, nodes.data(),
                static_cast<int64_t>(nodes.size()), counts.data(), stream);
}

void bind_draw_edges(const Pointers64& indptr, const AnyIntegers& indices, int64_t fanout, bool replace,
                     uint64_t state, const Numbers& nodes, const Numbers& offsets, const Numbers& positions,
                     const std::optional<Floats<1>>& importance, Stream stream) {
    require(offsets.size() == nodes.size() + 1, "offsets and nodes differ in number.");
    require(!importance || importance->size() == positions.size(), "importance and positions differ in number.");
    const OnDevice device(nodes.device_id());
    draw_edges(graph_of(indptr, indices), {fanout, replace, state}, nodes.data(), static_cast<int64_t>(nodes.size()),
               offsets.data(), positions.data(), data(importance), stream);
}

void bind_find_new(const Pointers64& indptr, const AnyIntegers& indices, const Numbers& positions, int32_t num_known,
                   const Words& places, const Words& sources, const Words& is_first, Stream stream) {
    require(sources.size() == positions.size() && is_first.size() == positions.size(), "arrays differ in length.");
    const OnDevice device(positions.device_id());
    find_new(graph_of(indptr, indices), positions.data(), static_cast<int64_t>(positions.size()), num_known,
             places.data(), sources.data(), is_first.data(), stream);
}

void bind_number_new(int32_t num_known, const Words& is_first, const Words& ranks, const Words& places,
                     const Numbers& nodes, const Words& sources, Stream stream) {
    require(ranks.size() == sources.size() && is_first.size() == sources.size(), "arrays differ in length.");
    const OnDevice device(nodes.device_id());
    number_new(num_known, is_first.data(), ranks.data(), static_cast<int64_t>(sources.size()), places.data(),
               nodes.data(), sources.data(), stream);
}

}  // namespace

void bind_sampling(nb::module_& m) {
    m.def("count_edges", bind_count_edges, "indptr"_a, "indices"_a, "fanout"_a, "replace"_a, "state"_a, "nodes"_a,
          "counts"_a, "stream"_a);
    m.def("draw_edges", bind_draw_edges, "indptr"_a, "indices"_a, "fanout"_a, "replace"_a, "state"_a, "nodes"_a,
          "offsets"_a, "positions"_a, "importance"_a.none(), "stream"_a);
    m.def("find_new", bind_find_new, "indptr"_a, "indices"_a, "positions"_a, "num_known"_a, "places"_a, "sources"_a,
          "is_first"_a, "stream"_a);
    m.def("number_new", bind_number_new, "num_known"_a, "is_first"_a, "ranks"_a, "places"_a, "nodes"_a, "sources"_a,
          "stream"_a);
}

}  // namespace gnnscale::gpu
