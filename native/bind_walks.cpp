// The Python face of random walks.
#include "bind.h"
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
}

}  // namespace gnnscale
