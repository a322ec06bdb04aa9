// The Python face of products with sparse matrices.
#include "bind.h"
#include "sparse.h"

namespace gnnscale {
namespace {

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

template <class Index>
void bind_index(nb::module_& m) {
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

void bind_sparse(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    bind_real<float, int32_t>(m);
    bind_real<float, int64_t>(m);
    bind_real<double, int32_t>(m);
    bind_real<double, int64_t>(m);
}

}  // namespace gnnscale
