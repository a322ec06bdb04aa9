// The Python face of sampling's steps.
#include "bind.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

using Words = TensorView<int32_t, 1, Device>;
using Pointers64 = Reached<int64_t, 1>;
using AnyIntegers = Reached<void, 1>;

Integers integers_of(const AnyIntegers& indices) {
    const auto dtype = std::visit([](const auto& view) { return view.dtype(); }, indices);
    const bool wide = dtype == nb::dtype<int64_t>();
    require(wide || dtype == nb::dtype<int32_t>(), "indices must be int32 or int64.");
    return {address(indices), wide};
}

Graph graph_of(const Pointers64& indptr, const AnyIntegers& indices) {
    return {address(indptr), integers_of(indices)};
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

void bind_sample_alike(const Pointers64& indptr, const AnyIntegers& indices, const std::vector<int64_t>& fanouts,
                       bool replace, const std::vector<uint64_t>& states, const Numbers& seeds,
                       const std::vector<int64_t>& most_rows, const std::vector<int64_t>& most_edges,
                       const Words& places, const Numbers& nodes, const Words& offsets, const Words& sources,
                       const Numbers& positions, const Floats<1>& importance, const Numbers& sizes,
                       const nb::callable& empty, Stream stream) {
    const size_t num_hops = fanouts.size();
    require(states.size() == num_hops && most_rows.size() == num_hops && most_edges.size() == num_hops,
            "states, rows and edges have to be of each hop.");
    require(sizes.size() == 2 * num_hops + 2, "sizes are too few.");
    Hops hops;
    int64_t row = 0, edge = 0;
    for (size_t h = 0; h < num_hops; ++h) {
        require(fanouts[h] >= 0, "fan-outs have to be numbers of edges.");
        hops.draws.push_back({fanouts[h], replace, states[h]});
        hops.arrays.push_back({most_rows[h], most_edges[h], offsets.data() + row, sources.data() + edge,
                               positions.data() + edge, importance.data() + edge});
        row += most_rows[h] + 1;
        edge += most_edges[h];
    }
    const auto fits = [](auto& array, int64_t size) { return static_cast<int64_t>(array.size()) == size; };
    require(fits(offsets, row) && fits(sources, edge) && fits(positions, edge) && fits(importance, edge),
            "there is not the room that the hops need.");
    FrameworkMemory memory(empty);
    const OnDevice device(seeds.device_id());
    sample_alike(graph_of(indptr, indices), hops, seeds.data(), static_cast<int64_t>(seeds.size()),
                 static_cast<int64_t>(places.size()), places.data(), nodes.data(), sizes.data(), memory, stream);
}

using Doubles = TensorView<double, 1, Device>;
using Flags = TensorView<uint8_t, 1, Device>;  // older frameworks do not hand over booleans
template <class T>
using Values = Reached<T, 1>;

int64_t size_of(const Doubles& array) { return static_cast<int64_t>(array.size()); }
int64_t size_of(const Numbers& array) { return static_cast<int64_t>(array.size()); }

InEdges in_edges(const AnyIntegers& indices, const Words& rows, const Numbers& shift, const Flags& keep) {
    require(rows.size() == keep.size(), "rows and flags differ in number.");
    return {integers_of(indices), rows.data(), shift.data(), static_cast<int64_t>(rows.size())};
}

void bind_mark_below(const AnyIntegers& indices, const Words& rows, const Numbers& shift, uint64_t state,
                     const Numbers& limits, const Flags& keep, Stream stream) {
    require(limits.size() == shift.size(), "limits and rows differ in number.");
    const OnDevice device(rows.device_id());
    mark_below(in_edges(indices, rows, shift, keep), state, limits.data(), keep.data(), stream);
}

void bind_mark_members(const AnyIntegers& indices, const Words& rows, const Numbers& shift, const Words& places,
                       const Flags& keep, Stream stream) {
    const OnDevice device(rows.device_id());
    mark_members(in_edges(indices, rows, shift, keep), places.data(), keep.data(), stream);
}

void bind_labor_roots(const Numbers& offsets, const Words& sources, const Doubles& pi, int64_t fanout, const Doubles& y,
                      Stream stream) {
    require(offsets.size() == y.size() + 1, "offsets and y differ in number.");
    const OnDevice device(offsets.device_id());
    labor_roots(offsets.data(), size_of(y), sources.data(), pi.data(), fanout, y.data(), stream);
}

void bind_row_weight_sums(const Values<float>& weight, const Numbers& offsets, const Numbers& shift, const Doubles& sums,
                          Stream stream) {
    require(offsets.size() == shift.size() + 1, "offsets and rows differ in number.");
    const OnDevice device(offsets.device_id());
    row_weight_sums(address(weight), offsets.data(), shift.data(), size_of(shift), sums.data(), stream);
}

void bind_draw_by_weight(const Values<float>& weight, const Numbers& nodes, const Numbers& offsets, const Numbers& shift,
                         const Doubles& sums, int64_t fanout, uint64_t state, const Numbers& drawn_offsets,
                         const Numbers& positions, const Floats<1>& importance, Stream stream) {
    require(nodes.size() == shift.size() && offsets.size() == nodes.size() + 1 && drawn_offsets.size() == offsets.size(),
            "the rows' arrays differ in length.");
    require(importance.size() == positions.size(), "importance and positions differ in number.");
    const OnDevice device(nodes.device_id());
    draw_by_weight({address(weight), nodes.data(), offsets.data(), shift.data(), size_of(nodes), sums.data()}, fanout,
                   state, drawn_offsets.data(), positions.data(), importance.data(), stream);
}

template <class Real>
void bind_segment_sums(const Numbers& offsets, const std::optional<Numbers>& order,
                       const TensorView<Real, 1, Device>& values, const TensorView<Real, 1, Device>& out,
                       Stream stream) {
    require(offsets.size() == out.size() + 1, "offsets and sums differ in number.");
    const OnDevice device(offsets.device_id());
    segment_sums(offsets.data(), static_cast<int64_t>(out.size()), data(order), values.data(), out.data(), stream);
}

void bind_cumulative_sums(const Doubles& values, const Doubles& totals, const Doubles& out, Stream stream) {
    require(out.size() == values.size() && 128 * totals.size() >= values.size(), "totals or sums are too few.");
    const OnDevice device(values.device_id());
    cumulative_sums(values.data(), size_of(values), totals.data(), out.data(), stream);
}

Walking walking(const Pointers64& indptr, const AnyIntegers& indices, const std::optional<Values<double>>& sums,
                const Numbers& starts, uint64_t key, double stop) {
    return {graph_of(indptr, indices), address(sums), starts.data(), size_of(starts), key, stop};
}

void bind_random_walks(const Pointers64& indptr, const AnyIntegers& indices, const std::optional<Values<double>>& sums,
                       const Numbers& starts, uint64_t key, double stop, const TensorView<int64_t, 2, Device>& out,
                       Stream stream) {
    require(static_cast<int64_t>(out.shape(0)) == size_of(starts), "starts and walks differ in number.");
    const OnDevice device(starts.device_id());
    random_walks(walking(indptr, indices, sums, starts, key, stop), out.shape(1) - 1, out.data(), stream);
}

void bind_walk_ends(const Pointers64& indptr, const AnyIntegers& indices, const std::optional<Values<double>>& sums,
                    const Numbers& starts, uint64_t key, double stop, const Numbers& out, Stream stream) {
    require(out.size() == starts.size(), "starts and walks differ in number.");
    const OnDevice device(starts.device_id());
    walk_ends(walking(indptr, indices, sums, starts, key, stop), out.data(), stream);
}

template <class Word>
void bind_take(const Values<Word>& values, const Numbers& index, const TensorView<Word, 1, Device>& out, Stream stream) {
    require(out.size() == index.size(), "index and results differ in number.");
    const OnDevice device(index.device_id());
    take(address(values), index.data(), size_of(index), out.data(), stream);
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
    m.def("sample_alike", bind_sample_alike, "indptr"_a, "indices"_a, "fanouts"_a, "replace"_a, "states"_a, "seeds"_a,
          "most_rows"_a, "most_edges"_a, "places"_a, "nodes"_a, "offsets"_a, "sources"_a, "positions"_a, "importance"_a,
          "sizes"_a, "empty"_a, "stream"_a);
    m.def("mark_below", bind_mark_below, "indices"_a, "rows"_a, "shift"_a, "state"_a, "limits"_a, "keep"_a, "stream"_a);
    m.def("mark_members", bind_mark_members, "indices"_a, "rows"_a, "shift"_a, "places"_a, "keep"_a, "stream"_a);
    m.def("labor_roots", bind_labor_roots, "offsets"_a, "sources"_a, "pi"_a, "fanout"_a, "y"_a, "stream"_a);
    m.def("row_weight_sums", bind_row_weight_sums, "weight"_a, "offsets"_a, "shift"_a, "sums"_a, "stream"_a);
    m.def("draw_by_weight", bind_draw_by_weight, "weight"_a, "nodes"_a, "offsets"_a, "shift"_a, "sums"_a, "fanout"_a,
          "state"_a, "drawn_offsets"_a, "positions"_a, "importance"_a, "stream"_a);
    m.def("segment_sums", bind_segment_sums<double>, "offsets"_a, "order"_a.none(), "values"_a, "out"_a, "stream"_a);
    m.def("segment_sums", bind_segment_sums<float>, "offsets"_a, "order"_a.none(), "values"_a, "out"_a, "stream"_a);
    m.def("cumulative_sums", bind_cumulative_sums, "values"_a, "totals"_a, "out"_a, "stream"_a);
    m.def("random_walks", bind_random_walks, "indptr"_a, "indices"_a, "sums"_a.none(), "starts"_a, "key"_a, "stop"_a,
          "out"_a, "stream"_a);
    m.def("walk_ends", bind_walk_ends, "indptr"_a, "indices"_a, "sums"_a.none(), "starts"_a, "key"_a, "stop"_a, "out"_a,
          "stream"_a);
    m.def("take", bind_take<int32_t>, "values"_a, "index"_a, "out"_a, "stream"_a);
    m.def("take", bind_take<int64_t>, "values"_a, "index"_a, "out"_a, "stream"_a);
}

}  // namespace gnnscale::gpu
