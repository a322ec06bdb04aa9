// The Python face of neighbour sampling.
#include "bind.h"
#include "sampling.h"

namespace gnnscale {
namespace {

nb::tuple to_tensors(Sample&& sample) {
    nb::list hops;
    for (Hop& hop : sample.hops)
        hops.append(nb::make_tuple(to_tensor(std::move(hop.indptr)), to_tensor(std::move(hop.indices)),
                                   to_tensor(std::move(hop.positions)), to_tensor(std::move(hop.importance))));
    return nb::make_tuple(to_tensor(std::move(sample.nodes)), hops);
}

template <class Index>
nb::tuple bind_sample_neighbors(Vector<const int64_t> indptr, Vector<const Index> indices,
                                std::optional<Vector<const float>> weight, Vector<const int64_t> seeds,
                                const std::vector<int64_t>& fanouts, uint64_t key, bool replace, int num_threads,
                                int64_t narrow_limit, int64_t dense_nodes) {
    const Csc<Index> graph = csc(indptr, indices);
    Sample sample;
    {
        nb::gil_scoped_release release;
        sample = sample_neighbors(graph, weight ? weight->data() : nullptr, seeds.data(), seeds.size(), fanouts,
                                  replace, {key, num_threads, narrow_limit, dense_nodes});
    }
    return to_tensors(std::move(sample));
}

template <class Index>
nb::tuple bind_sample_labor(Vector<const int64_t> indptr, Vector<const Index> indices, Vector<const int64_t> seeds,
                            const std::vector<int64_t>& fanouts, uint64_t key, int64_t iterations, bool shared,
                            int num_threads, int64_t narrow_limit, int64_t dense_nodes) {
    const Csc<Index> graph = csc(indptr, indices);
    Sample sample;
    {
        nb::gil_scoped_release release;
        sample = sample_labor(graph, seeds.data(), seeds.size(), fanouts, iterations, shared,
                              {key, num_threads, narrow_limit, dense_nodes});
    }
    return to_tensors(std::move(sample));
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("sample_neighbors", bind_sample_neighbors<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "weight"_a.noconvert().none(), "seeds"_a.noconvert(), "fanouts"_a, "key"_a, "replace"_a, "num_threads"_a,
          "narrow_limit"_a, "dense_nodes"_a);
    m.def("sample_labor", bind_sample_labor<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "seeds"_a.noconvert(), "fanouts"_a, "key"_a, "iterations"_a, "shared"_a, "num_threads"_a, "narrow_limit"_a,
          "dense_nodes"_a);
}

}  // namespace

void bind_sampling(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
}

}  // namespace gnnscale
