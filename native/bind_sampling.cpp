// The Python face of neighbour sampling.
#include "bind.h"
#include "sampling.h"

namespace gnnscale {
namespace {

template <class Index>
nb::tuple bind_sample_neighbors(Vector<const int64_t> indptr, Vector<const Index> indices,
                                Vector<const int64_t> seeds, const std::vector<int64_t>& fanouts,
                                uint64_t key, bool replace, int num_threads, int64_t narrow_limit) {
    const Csc<Index> graph = csc(indptr, indices);
    Sample sample;
    {
        nb::gil_scoped_release release;
        sample = sample_neighbors(graph, seeds.data(), seeds.size(), fanouts,
                                  {key, replace, num_threads, narrow_limit});
    }
    nb::list hops;
    for (Hop& hop : sample.hops)
        hops.append(nb::make_tuple(to_tensor(std::move(hop.indptr)), to_tensor(std::move(hop.indices)),
                                   to_tensor(std::move(hop.positions))));
    return nb::make_tuple(to_tensor(std::move(sample.nodes)), hops);
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("sample_neighbors", bind_sample_neighbors<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "seeds"_a.noconvert(), "fanouts"_a, "key"_a, "replace"_a, "num_threads"_a, "narrow_limit"_a);
}

}  // namespace

void bind_sampling(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
}

}  // namespace gnnscale
