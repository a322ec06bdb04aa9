// The Python face of random walks.
#include "bind.h"
#include "visits.h"
#include "walks.h"

namespace gnnscale {
namespace {

Walks walks(const std::optional<Vector<const double>>& sums, const Vector<const int64_t>& starts,
            uint64_t key, double stop, int num_threads) {
    return {sums ? sums->data() : nullptr, starts.data(), static_cast<int64_t>(starts.size()), key, stop,
            num_threads};
}

template <class Index>
void bind_random_walks(Vector<const int64_t> indptr, Vector<const Index> indices,
                       std::optional<Vector<const double>> sums, Vector<const int64_t> starts, uint64_t key,
                       double stop, Matrix<int64_t> out, int num_threads) {
    nb::gil_scoped_release release;
    random_walks(csc(indptr, indices), walks(sums, starts, key, stop, num_threads),
                 static_cast<int64_t>(out.shape(1)) - 1, out.data());
}

template <class Index>
void bind_walk_ends(Vector<const int64_t> indptr, Vector<const Index> indices,
                    std::optional<Vector<const double>> sums, Vector<const int64_t> starts, uint64_t key,
                    double stop, Vector<int64_t> out, int num_threads) {
    nb::gil_scoped_release release;
    walk_ends(csc(indptr, indices), walks(sums, starts, key, stop, num_threads), out.data());
}

nb::tuple bind_top_visits(Matrix<const int64_t> visited, std::optional<Vector<const int64_t>> own, int64_t limit,
                          uint64_t key, int num_threads) {
    Visited found;
    {
        nb::gil_scoped_release release;
        found = top_visits({visited.data(), static_cast<int64_t>(visited.shape(0)),
                            static_cast<int64_t>(visited.shape(1)), own ? own->data() : nullptr},
                           limit, key, num_threads);
    }
    return nb::make_tuple(to_tensor(std::move(found.indptr)), to_tensor(std::move(found.nodes)),
                          to_tensor(std::move(found.counts)));
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("random_walks", bind_random_walks<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "sums"_a.noconvert().none(), "starts"_a.noconvert(), "key"_a, "stop"_a, "out"_a.noconvert(),
          "num_threads"_a);
    m.def("walk_ends", bind_walk_ends<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "sums"_a.noconvert().none(), "starts"_a.noconvert(), "key"_a, "stop"_a, "out"_a.noconvert(),
          "num_threads"_a);
}

}  // namespace

void bind_walks(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    m.def("top_visits", bind_top_visits, "visited"_a.noconvert(), "own"_a.noconvert().none(), "limit"_a, "key"_a,
          "num_threads"_a);
}

}  // namespace gnnscale
