// The Python face of attention. Shapes are checked in gnnscale/ops/attention.py; scores are (rows, heads), all else
// that belongs to a head stands in its columns.
#include "attention.h"
#include "bind.h"

namespace gnnscale {
namespace {

template <class T>
T* data_of(const std::optional<Matrix<T>>& matrix) {
    return matrix ? matrix->data() : nullptr;
}

// Arguments of both directions, as Python gives them.
template <class Real>
Attention<Real> attention(const CsrArgument& matrix, const Matrix<const Real>& x,
                          const std::optional<Matrix<const Real>>& source,
                          const std::optional<Matrix<const Real>>& target,
                          const std::optional<Matrix<const Real>>& scores,
                          const std::optional<Vector<const Real>>& log_multiplicity,
                          const std::optional<Matrix<const Real>>& mask, int64_t heads, double slope, bool own_row) {
    return {*matrix,
            heads,
            static_cast<int64_t>(x.shape(1)) / heads,
            own_row,
            static_cast<Real>(slope),
            x.data(),
            data_of(source),
            data_of(target),
            data_of(scores),
            log_multiplicity ? log_multiplicity->data() : nullptr,
            data_of(mask)};
}

template <class Real>
void bind_attend(Array<1> indptr, Array<1> indices, Matrix<const Real> x,
                 std::optional<Matrix<const Real>> source, std::optional<Matrix<const Real>> target,
                 std::optional<Matrix<const Real>> scores, std::optional<Vector<const Real>> log_multiplicity,
                 std::optional<Matrix<const Real>> mask, int64_t heads, double slope, bool own_row, Matrix<Real> out,
                 Matrix<Real> log_sum, std::optional<Matrix<Real>> share, std::optional<Matrix<Real>> positive,
                 int num_threads) {
    nb::gil_scoped_release release;
    const CsrArgument matrix(indptr, indices, x.shape(0));
    attend(attention<Real>(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, own_row),
           Attended<Real>{out.data(), log_sum.data(), data_of(share), data_of(positive)}, num_threads);
}

template <class Real>
void bind_attend_backward(Array<1> indptr, Array<1> indices, Matrix<const Real> x,
                          std::optional<Matrix<const Real>> source, std::optional<Matrix<const Real>> target,
                          std::optional<Matrix<const Real>> scores,
                          std::optional<Vector<const Real>> log_multiplicity, std::optional<Matrix<const Real>> mask,
                          int64_t heads, double slope, bool own_row, Array<1> indptr_t,
                          Array<1> indices_t, Vector<const int64_t> permutation, Matrix<const Real> out,
                          Matrix<const Real> log_sum, std::optional<Matrix<const Real>> share,
                          std::optional<Matrix<const Real>> positive, Matrix<const Real> grad, Matrix<Real> grad_x,
                          std::optional<Matrix<Real>> grad_source, std::optional<Matrix<Real>> grad_target,
                          std::optional<Matrix<Real>> grad_scores, int num_threads) {
    nb::gil_scoped_release release;
    const CsrArgument matrix(indptr, indices, x.shape(0));
    const CsrArgument transposed(indptr_t, indices_t, static_cast<int64_t>(indptr.size()) - 1);
    attend_backward(
        attention<Real>(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, own_row),
        *transposed, permutation.data(),
        Attended<const Real>{out.data(), log_sum.data(), data_of(share), data_of(positive)}, grad.data(),
        AttentionGradients<Real>{grad_x.data(), data_of(grad_source), data_of(grad_target), data_of(grad_scores)},
        num_threads);
}

template <class Real>
void bind_real(nb::module_& m) {
    m.def("attend", bind_attend<Real>, "indptr"_a.noconvert(), "indices"_a.noconvert(), "x"_a.noconvert(),
          "source"_a.noconvert().none(), "target"_a.noconvert().none(), "scores"_a.noconvert().none(),
          "log_multiplicity"_a.noconvert().none(), "mask"_a.noconvert().none(), "heads"_a, "slope"_a, "own_row"_a,
          "out"_a.noconvert(), "log_sum"_a.noconvert(), "share"_a.noconvert().none(),
          "positive"_a.noconvert().none(), "num_threads"_a);
    m.def("attend_backward", bind_attend_backward<Real>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "x"_a.noconvert(), "source"_a.noconvert().none(), "target"_a.noconvert().none(),
          "scores"_a.noconvert().none(), "log_multiplicity"_a.noconvert().none(), "mask"_a.noconvert().none(),
          "heads"_a, "slope"_a, "own_row"_a, "indptr_t"_a.noconvert(), "indices_t"_a.noconvert(),
          "permutation"_a.noconvert(), "out"_a.noconvert(), "log_sum"_a.noconvert(), "share"_a.noconvert().none(),
          "positive"_a.noconvert().none(), "grad"_a.noconvert(), "grad_x"_a.noconvert(),
          "grad_source"_a.noconvert().none(), "grad_target"_a.noconvert().none(),
          "grad_scores"_a.noconvert().none(), "num_threads"_a);
}

}  // namespace

void bind_attention(nb::module_& m) {
    bind_real<float>(m);
    bind_real<double>(m);
}

}  // namespace gnnscale
