// The Python face of subgraphs and of layer-wise sampling.
#include "bind.h"
#include "layerwise.h"
#include "subgraph.h"

namespace gnnscale {
namespace {

Nodes nodes(const Vector<const int64_t>& ids) { return {ids.data(), static_cast<int64_t>(ids.size())}; }

template <class T>
const T* data_or_null(const std::optional<Vector<const T>>& values) {
    return values ? values->data() : nullptr;
}

template <class Index>
nb::tuple bind_edges_between(Vector<const int64_t> indptr, Vector<const Index> indices,
                             Vector<const int64_t> destinations, Vector<const int64_t> sources, int num_threads,
                             int64_t narrow_limit) {
    Hop hop;
    {
        nb::gil_scoped_release release;
        hop = edges_between(csc(indptr, indices), nodes(destinations), nodes(sources), num_threads, narrow_limit);
    }
    return nb::make_tuple(to_tensor(std::move(hop.indptr)), to_tensor(std::move(hop.indices)),
                          to_tensor(std::move(hop.positions)));
}

template <class Index>
nb::tuple bind_edges_from(Vector<const int64_t> indptr, Vector<const Index> indices,
                          Vector<const int64_t> destinations, Vector<const int64_t> drawn, int num_threads,
                          int64_t narrow_limit) {
    LayerEdges layer;
    {
        nb::gil_scoped_release release;
        layer = edges_from(csc(indptr, indices), nodes(destinations), nodes(drawn), num_threads, narrow_limit);
    }
    return nb::make_tuple(to_tensor(std::move(layer.nodes)), to_tensor(std::move(layer.hop.indptr)),
                          to_tensor(std::move(layer.hop.indices)), to_tensor(std::move(layer.hop.positions)),
                          to_tensor(std::move(layer.origins)), to_tensor(std::move(layer.places)));
}

template <class Index>
nb::tuple bind_column_sums(Vector<const int64_t> indptr, Vector<const Index> indices,
                           Vector<const int64_t> destinations, std::optional<Vector<const double>> rows,
                           std::optional<Vector<const double>> columns, std::optional<Vector<const float>> weight,
                           int num_threads) {
    Columns found;
    {
        nb::gil_scoped_release release;
        found = column_sums(csc(indptr, indices), nodes(destinations),
                            {data_or_null(rows), data_or_null(columns), data_or_null(weight)}, num_threads);
    }
    return nb::make_tuple(to_tensor(std::move(found.sources)), to_tensor(std::move(found.sums)));
}

nb::object bind_cumulative_sums(Vector<const double> values) {
    Buffer<double> sums;
    {
        nb::gil_scoped_release release;
        sums = cumulative_sums(values.data(), values.size());
    }
    return to_tensor(std::move(sums));
}

nb::object bind_draw_in_succession(Vector<const double> chance, int64_t size, uint64_t key) {
    Buffer<int64_t> drawn;
    {
        nb::gil_scoped_release release;
        drawn = draw_in_succession(chance.data(), chance.size(), size, key);
    }
    return to_tensor(std::move(drawn));
}

nb::tuple bind_draw_with_replacement(Vector<const double> cumulative, int64_t size, uint64_t key,
                                     std::optional<Vector<const int64_t>> guide) {
    if (guide && guide->size() < 2) guide.reset();
    Counted counted;
    {
        nb::gil_scoped_release release;
        counted = draw_with_replacement({cumulative.data(), static_cast<int64_t>(cumulative.size()),
                                         data_or_null(guide), guide ? static_cast<int64_t>(guide->size()) - 1 : 0},
                                        size, key);
    }
    return nb::make_tuple(to_tensor(std::move(counted.positions)), to_tensor(std::move(counted.counts)));
}

template <class Id>
nb::object bind_fill_rows(Vector<const Id> indptr, Vector<const double> values,
                          std::optional<Vector<const float>> weight, Vector<const float> totals) {
    if (indptr.size() != totals.size() + 1 || (weight && weight->size() != values.size()))
        throw std::invalid_argument("the rows' arrays have lengths that do not belong together.");
    Buffer<double> filled;
    {
        nb::gil_scoped_release release;
        filled = fill_rows<Id>({indptr.data(), static_cast<int64_t>(totals.size()), static_cast<int64_t>(values.size())},
                               values.data(), data_or_null(weight), totals.data());
    }
    return to_tensor(std::move(filled));
}

nb::object bind_distinct_nodes(Vector<const int64_t> ids, int64_t num_nodes) {
    Buffer<int64_t> distinct;
    {
        nb::gil_scoped_release release;
        distinct = distinct_nodes(nodes(ids), num_nodes);
    }
    return to_tensor(std::move(distinct));
}

nb::tuple bind_append_nodes(Vector<const int64_t> seeds, Vector<const int64_t> ids, int64_t num_nodes) {
    std::pair<Buffer<int64_t>, Buffer<int32_t>> appended;
    {
        nb::gil_scoped_release release;
        appended = append_nodes(nodes(seeds), nodes(ids), num_nodes);
    }
    return nb::make_tuple(to_tensor(std::move(appended.first)), to_tensor(std::move(appended.second)));
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("edges_between", bind_edges_between<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "destinations"_a.noconvert(), "sources"_a.noconvert(), "num_threads"_a, "narrow_limit"_a);
    m.def("edges_from", bind_edges_from<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "destinations"_a.noconvert(), "drawn"_a.noconvert(), "num_threads"_a, "narrow_limit"_a);
    m.def("column_sums", bind_column_sums<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "destinations"_a.noconvert(), "rows"_a.noconvert().none(), "columns"_a.noconvert().none(),
          "weight"_a.noconvert().none(), "num_threads"_a);
    m.def("fill_rows", bind_fill_rows<Index>, "indptr"_a.noconvert(), "values"_a.noconvert(),
          "weight"_a.noconvert().none(), "totals"_a.noconvert());
}

}  // namespace

void bind_subgraph(nb::module_& m) {
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    m.def("cumulative_sums", bind_cumulative_sums, "values"_a.noconvert());
    m.def("draw_in_succession", bind_draw_in_succession, "chance"_a.noconvert(), "size"_a, "key"_a);
    m.def("draw_with_replacement", bind_draw_with_replacement, "cumulative"_a.noconvert(), "size"_a, "key"_a,
          "guide"_a.noconvert().none() = nb::none());
    m.def("distinct_nodes", bind_distinct_nodes, "ids"_a.noconvert(), "num_nodes"_a);
    m.def("append_nodes", bind_append_nodes, "seeds"_a.noconvert(), "ids"_a.noconvert(), "num_nodes"_a);
}

}  // namespace gnnscale
