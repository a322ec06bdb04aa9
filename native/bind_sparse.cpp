// The Python face of products with sparse matrices.
#include <algorithm>
#include <limits>
#include <string>

#include "bind.h"
#include "extremes.h"
#include "pool.h"
#include "sparse.h"

namespace gnnscale {

CsrArgument::CsrArgument(const Array<1>& indptr, const Array<1>& indices, int64_t num_cols) {
    const auto num_rows = static_cast<int64_t>(indptr.size()) - 1;
    const auto num_edges = static_cast<int64_t>(indices.size());
    for (const auto* array : {&indptr, &indices})
        if (array->dtype() != nb::dtype<int32_t>() && array->dtype() != nb::dtype<int64_t>())
            throw std::invalid_argument("indptr and indices must be int32 or int64.");
    if (num_rows < 0) throw std::invalid_argument("indptr is empty; a matrix of n rows has n + 1 pointers.");
    if (indptr.dtype() == nb::dtype<int32_t>()) {
        wide_.resize(indptr.size());
        std::copy_n(static_cast<const int32_t*>(indptr.data()), indptr.size(), wide_.data());
    }
    if (indices.dtype() == nb::dtype<int64_t>()) {
        if (num_cols > std::numeric_limits<int32_t>::max())
            throw std::invalid_argument("the matrix has " + std::to_string(num_cols) +
                                        " columns; products take less than 2^31.");
        const auto* values = static_cast<const int64_t*>(indices.data());
        check_columns(Csr<int64_t>{nullptr, values, num_rows, num_cols, num_edges}, 0, num_edges);
        narrow_.resize(num_edges);
        std::transform(values, values + num_edges, narrow_.data(),
                       [](int64_t value) { return static_cast<int32_t>(value); });
    }
    matrix_ = {wide_.size() ? wide_.data() : static_cast<const int64_t*>(indptr.data()),
               indices.dtype() == nb::dtype<int64_t>() ? narrow_.data() : static_cast<const int32_t*>(indices.data()),
               num_rows, num_cols, num_edges};
}

namespace {

// Products of all types that occur together: those of the rows that are read and of those that are written.
template <class Work>
void with_types(nb::dlpack::dtype in, nb::dlpack::dtype out, const Work& work) {
    const auto single = nb::dtype<float>(), wide = nb::dtype<double>();
    if (in == single && out == single) return work(float(), float());
    if (in == wide && out == wide) return work(double(), double());
    if (in == kBFloat16 && out == kBFloat16) return work(BFloat16(), BFloat16());
    if (in == kBFloat16 && out == single) return work(BFloat16(), float());
    if (in == single && out == kBFloat16) return work(float(), BFloat16());
    throw std::invalid_argument("rows of these types cannot be multiplied.");
}

void bind_spmm(const Array<1>& indptr, const Array<1>& indices, const std::optional<Array<1>>& weights,
               const std::optional<Array<1>>& order, const std::optional<Array<1>>& diagonal,
               const Array<2>& x, const std::optional<Array<2>>& out, const std::optional<Array<2>>& rows,
               const std::optional<Array<1>>& dots, int num_threads) {
    nb::gil_scoped_release release;
    const CsrArgument matrix(indptr, indices, x.shape(0));
    for (const auto* values : {&weights, &order, &dots})
        if (*values && (*values)->size() != indices.size())
            throw std::invalid_argument("an array of numbers for the edges has another length than indices.");
    for (const auto* values : {&out, &rows})
        if (*values && ((*values)->shape(0) + 1 != indptr.size() || (*values)->shape(1) != x.shape(1)))
            throw std::invalid_argument("rows of the result or of its gradient do not fit the matrix.");
    with_types(x.dtype(), (out ? *out : *rows).dtype(), [&](auto in, auto local) {
        using In = decltype(in);
        using Out = decltype(local);
        using Real = Sum<In>;
        spmm<In, Out>(*matrix, {data<Real>(weights), data<int64_t>(order)},
                      {data<Real>(diagonal), diagonal ? static_cast<int64_t>(diagonal->size()) : 0},
                      static_cast<const In*>(x.data()), x.shape(1),
                      out ? static_cast<Out*>(out->data()) : nullptr,
                      {rows ? static_cast<const Out*>(rows->data()) : nullptr,
                       data<Real>(dots)},
                      num_threads);
    });
}

template <class Index>
void bind_transpose_csr(Vector<const int64_t> indptr, Vector<const Index> indices, Vector<int64_t> indptr_t,
                        Vector<Index> indices_t, Vector<int64_t> permutation) {
    nb::gil_scoped_release release;
    const Csr<Index> matrix = {indptr.data(), indices.data(), static_cast<int64_t>(indptr.size()) - 1,
                               static_cast<int64_t>(indptr_t.size()) - 1, static_cast<int64_t>(indices.size())};
    transpose_csr(matrix, indptr_t.data(), indices_t.data(), permutation.data());
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("transpose_csr", bind_transpose_csr<Index>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "indptr_t"_a.noconvert(), "indices_t"_a.noconvert(), "permutation"_a.noconvert());
}

template <class Real>
void bind_extremes(nb::module_& m) {
    m.def(
        "extremes",
        [](const Array<1>& indptr, const Array<1>& indices, Matrix<const Real> x, bool largest, Matrix<Real> out,
           std::optional<Matrix<Real>> ties, int num_threads) {
            nb::gil_scoped_release release;
            extremes(*CsrArgument(indptr, indices, x.shape(0)), x.data(), x.shape(1), largest, out.data(),
                     ties ? ties->data() : nullptr, num_threads);
        },
        "indptr"_a.noconvert(), "indices"_a.noconvert(), "x"_a.noconvert(), "largest"_a, "out"_a.noconvert(),
        "ties"_a.noconvert().none(), "num_threads"_a);
    m.def(
        "extremes_backward",
        [](const Array<1>& indptr_t, const Array<1>& indices_t, Matrix<const Real> x, Matrix<const Real> extreme,
           Matrix<const Real> share, Matrix<Real> grad, int num_threads) {
            nb::gil_scoped_release release;
            extremes_backward(*CsrArgument(indptr_t, indices_t, extreme.shape(0)), x.data(), extreme.data(),
                              share.data(), x.shape(1), grad.data(), num_threads);
        },
        "indptr_t"_a.noconvert(), "indices_t"_a.noconvert(), "x"_a.noconvert(), "extreme"_a.noconvert(),
        "share"_a.noconvert(), "grad"_a.noconvert(), "num_threads"_a);
}

// Memory for a large result, used again: a fresh one costs a page fault for every 4 KB.
template <class Real>
nb::object recycled(int64_t rows, int64_t width) {
    using Memory = std::shared_ptr<std::byte>;
    auto* memory = new Memory(results().take(rows * width * sizeof(Real)));
    nb::capsule owner(memory, [](void* held) noexcept { delete static_cast<Memory*>(held); });
    const size_t shape[] = {static_cast<size_t>(rows), static_cast<size_t>(width)};
    return nb::cast(nb::ndarray<nb::pytorch, Real, nb::ndim<2>>(memory->get(), 2, shape, owner));
}

}  // namespace

void bind_sparse(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    m.def("spmm", bind_spmm, "indptr"_a.noconvert(), "indices"_a.noconvert(), "weights"_a.noconvert().none(),
          "order"_a.noconvert().none(), "diagonal"_a.noconvert().none(), "x"_a.noconvert(),
          "out"_a.noconvert().none(), "rows"_a.noconvert().none(), "dots"_a.noconvert().none(), "num_threads"_a);
    bind_extremes<float>(m);
    bind_extremes<double>(m);
    m.def("recycled", recycled<float>, "rows"_a, "width"_a);
}

}  // namespace gnnscale
