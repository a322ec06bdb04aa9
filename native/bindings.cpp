// The Python face of the operations. Tensors come and go through DLPack, so this module knows nothing of
// torch; the arguments' meaning is checked in gnnscale/ops, their memory layout here by the types.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "dropout.h"
#include "gather.h"
#include "sampling.h"
#include "sparse.h"
#include "walks.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace gnnscale {

void bind_history(nb::module_& m);  // bind_history.cpp

namespace {

template <class T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class T>
nb::object to_tensor(Buffer<T>&& buffer) {
    const size_t size = buffer.size();
    T* data = buffer.release();
    nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
    return nb::cast(nb::ndarray<nb::pytorch, T, nb::ndim<1>>(data, {size}, owner));
}

nb::object to_tensor(LocalIds&& ids) {
    return std::visit([](auto&& buffer) { return to_tensor(std::move(buffer)); }, std::move(ids));
}

template <class Index>
Csc<Index> csc(const Vector<const int64_t>& indptr, const Vector<const Index>& indices) {
    return {indptr.data(), indices.data(), static_cast<int64_t>(indptr.size()) - 1,
            static_cast<int64_t>(indices.size())};
}

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
void bind_gather_rows(Matrix<const uint8_t> source, Vector<const Index> index, Matrix<uint8_t> out,
                      int num_threads) {
    nb::gil_scoped_release release;
    gather_rows(reinterpret_cast<const std::byte*>(source.data()), source.shape(0), source.shape(1),
                index.data(), index.size(), reinterpret_cast<std::byte*>(out.data()), num_threads);
}

template <class Index>
Csr<Index> csr(const Vector<const int64_t>& indptr, const Vector<const Index>& indices, int64_t num_cols) {
    return {indptr.data(), indices.data(), static_cast<int64_t>(indptr.size()) - 1, num_cols,
            static_cast<int64_t>(indices.size())};
}

template <class Real, class Index>
void bind_spmm(Vector<const int64_t> indptr, Vector<const Index> indices,
               std::optional<Vector<const Real>> weight, std::optional<Vector<const Real>> diagonal,
               Matrix<const Real> x, Matrix<Real> out, int num_threads) {
    nb::gil_scoped_release release;
    const Diagonal<Real> own = {diagonal ? diagonal->data() : nullptr,
                                diagonal ? static_cast<int64_t>(diagonal->size()) : 0};
    spmm(csr(indptr, indices, x.shape(0)), weight ? weight->data() : nullptr, own, x.data(), x.shape(1),
         out.data(), num_threads);
}

template <class Real, class Index>
void bind_sddmm(Vector<const int64_t> indptr, Vector<const Index> indices, Matrix<const Real> rows,
                Matrix<const Real> cols, Vector<Real> out, int num_threads) {
    nb::gil_scoped_release release;
    sddmm(csr(indptr, indices, cols.shape(0)), rows.data(), cols.data(), cols.shape(1), out.data(),
          num_threads);
}

template <class Index>
void bind_transpose_csr(Vector<const int64_t> indptr, Vector<const Index> indices, Vector<int64_t> indptr_t,
                        Vector<Index> indices_t, Vector<int64_t> permutation) {
    nb::gil_scoped_release release;
    transpose_csr(csr(indptr, indices, static_cast<int64_t>(indptr_t.size()) - 1), indptr_t.data(),
                  indices_t.data(), permutation.data());
}

void bind_dropout(Vector<const float> x, int64_t keep, uint64_t key, Vector<float> out, int num_threads) {
    nb::gil_scoped_release release;
    dropout(x.data(), x.size(), keep, key, out.data(), num_threads);
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("sample_neighbors", bind_sample_neighbors<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "seeds"_a.noconvert(), "fanouts"_a, "key"_a, "replace"_a, "num_threads"_a, "narrow_limit"_a);
    m.def("random_walks", bind_random_walks<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "sums"_a.noconvert().none(), "starts"_a.noconvert(), "key"_a, "stop"_a, "out"_a.noconvert(),
          "num_threads"_a);
    m.def("walk_ends", bind_walk_ends<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "sums"_a.noconvert().none(), "starts"_a.noconvert(), "key"_a, "stop"_a, "out"_a.noconvert(),
          "num_threads"_a);
    m.def("gather_rows", bind_gather_rows<Index>, "source"_a.noconvert(), "index"_a.noconvert(),
          "out"_a.noconvert(), "num_threads"_a);
    m.def("transpose_csr", bind_transpose_csr<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "indptr_t"_a.noconvert(), "indices_t"_a.noconvert(), "permutation"_a.noconvert());
}

template <class Real, class Index>
void bind_real(nb::module_& m) {
    m.def("spmm", bind_spmm<Real, Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "weight"_a.noconvert().none(), "diagonal"_a.noconvert().none(), "x"_a.noconvert(),
          "out"_a.noconvert(), "num_threads"_a);
    m.def("sddmm", bind_sddmm<Real, Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "rows"_a.noconvert(), "cols"_a.noconvert(), "out"_a.noconvert(), "num_threads"_a);
}

}  // namespace
}  // namespace gnnscale

NB_MODULE(_native, m) {
    using namespace gnnscale;
    // A store may live as long as the interpreter; that is no leak that a user should read of.
    nb::set_leak_warnings(false);
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    bind_real<float, int32_t>(m);
    bind_real<float, int64_t>(m);
    bind_real<double, int32_t>(m);
    bind_real<double, int64_t>(m);
    m.def("dropout", bind_dropout, "x"_a.noconvert(), "keep"_a, "key"_a, "out"_a.noconvert(), "num_threads"_a);
    bind_history(m);
}
