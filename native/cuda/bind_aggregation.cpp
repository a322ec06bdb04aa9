// The Python face of sums, extremes and attention.
#include "bind.h"

namespace gnnscale::gpu {
namespace {

// Rows of all types that occur together: those that are read, and those of the result or its gradient.
template <class Work>
void with_types(nb::dlpack::dtype in, nb::dlpack::dtype other, const Work& work) {
    const auto single = nb::dtype<float>();
    if (in == single && other == single) return work(float(), float());
    if (in == kBFloat16 && other == kBFloat16) return work(BFloat16(), BFloat16());
    if (in == kBFloat16 && other == single) return work(BFloat16(), float());
    if (in == single && other == kBFloat16) return work(float(), BFloat16());
    throw std::invalid_argument("rows of these types cannot be multiplied.");
}

void bind_spmm(const Array<1>& indptr, const Array<1>& indices, const std::optional<Floats<1>>& weights,
               const std::optional<Numbers>& order, const std::optional<Floats<1>>& diagonal, const Array<2>& x,
               const Array<2>& out, nb::callable empty, Stream stream) {
    require(!weights || weights->size() == indices.size(), "weights and indices differ in length.");
    require(!order || order->size() == indices.size(), "order and indices differ in length.");
    require(out.shape(0) + 1 == indptr.size() && out.shape(1) == x.shape(1), "out does not fit the matrix.");
    require(!diagonal || diagonal->size() <= std::min(out.shape(0), x.shape(0)), "diagonal is too long.");
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    with_types(x.dtype(), out.dtype(), [&](auto in, auto result) {
        using In = decltype(in);
        using Out = decltype(result);
        spmm(matrix_of(indptr, indices), data(weights), data(order), data(diagonal),
             diagonal ? static_cast<int64_t>(diagonal->size()) : 0, static_cast<const In*>(x.data()),
             static_cast<int64_t>(x.shape(1)), static_cast<Out*>(out.data()), memory, stream);
    });
}

void bind_edge_dots(const Array<1>& indptr, const Array<1>& indices, const std::optional<Numbers>& order,
                    const Array<2>& x, const Array<2>& rows, const Floats<1>& dots, Stream stream) {
    require(dots.size() == indices.size(), "dots and indices differ in length.");
    require(!order || order->size() == indices.size(), "order and indices differ in length.");
    require(rows.shape(0) + 1 == indptr.size() && rows.shape(1) == x.shape(1), "rows do not fit the matrix.");
    const OnDevice device(x.device_id());
    with_types(x.dtype(), rows.dtype(), [&](auto in, auto local) {
        using In = decltype(in);
        using Local = decltype(local);
        edge_dots(matrix_of(indptr, indices), data(order), static_cast<const In*>(x.data()),
                  static_cast<const Local*>(rows.data()), static_cast<int64_t>(x.shape(1)), dots.data(), stream);
    });
}

// Rows that are read and written, all of one type.
template <class Work>
void with_type(nb::dlpack::dtype type, const Work& work) {
    if (type == nb::dtype<float>()) return work(float());
    if (type == kBFloat16) return work(BFloat16());
    throw std::invalid_argument("rows must be float32 or bfloat16.");
}

template <class... Rows>
void require_type_of(const Array<2>& x, const Rows&... rows) {
    require(((rows.dtype() == x.dtype()) && ...), "all rows must be of the type of x.");
}

template <class Real>
Real* as(const Array<2>& rows) {
    return static_cast<Real*>(rows.data());
}

void bind_extremes(const Array<1>& indptr, const Array<1>& indices, const Array<2>& x, bool largest,
                   const Array<2>& out, const Floats<2>& ties, nb::callable empty, Stream stream) {
    require(out.shape(0) + 1 == indptr.size() && out.shape(1) == x.shape(1) && ties.shape(0) == out.shape(0) &&
                ties.shape(1) == x.shape(1),
            "out does not fit the matrix.");
    require_type_of(x, out);
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    with_type(x.dtype(), [&](auto example) {
        using Real = decltype(example);
        extremes(matrix_of(indptr, indices), as<const Real>(x), static_cast<int64_t>(x.shape(1)), largest,
                 as<Real>(out), ties.data(), memory, stream);
    });
}

void bind_extremes_backward(const Array<1>& indptr_t, const Array<1>& indices_t, const Array<2>& x,
                            const Array<2>& extreme, const Floats<2>& share, const Array<2>& grad,
                            nb::callable empty, Stream stream) {
    require(x.shape(0) + 1 == indptr_t.size(), "x does not fit the matrix.");
    require(grad.shape(0) == x.shape(0) && grad.shape(1) == x.shape(1), "grad does not fit x.");
    require(extreme.shape(1) == x.shape(1) && share.shape(1) == x.shape(1), "rows differ in width.");
    require_type_of(x, extreme, grad);
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    with_type(x.dtype(), [&](auto example) {
        using Real = decltype(example);
        extremes_backward(matrix_of(indptr_t, indices_t), as<const Real>(x), as<const Real>(extreme), share.data(),
                          static_cast<int64_t>(x.shape(1)), as<Real>(grad), memory, stream);
    });
}

using Given = std::optional<Floats<2>>;
using GivenOfEdges = std::optional<Floats<1>>;

template <class Real>
Attention<Real> attention(const Matrix& matrix, const Array<2>& x, const Given& source, const Given& target,
                          const Given& scores, const GivenOfEdges& log_multiplicity, const Given& mask, int64_t heads,
                          float slope, int64_t num_own) {
    require(heads > 0 && static_cast<int64_t>(x.shape(1)) % heads == 0, "the heads cannot share the columns of x.");
    require(scores || (source && target), "scores are missing; give source and target, or scores of the edges.");
    for (const auto* values : {&source, &target, &scores, &mask})
        require(!*values || static_cast<int64_t>((*values)->shape(1)) == heads, "an array has other heads.");
    require(!log_multiplicity || static_cast<int64_t>(log_multiplicity->size()) == matrix.rows.num_edges,
            "log_multiplicity and indices differ in length.");
    return {matrix,       heads,        static_cast<int64_t>(x.shape(1)) / heads, num_own, slope, as<const Real>(x),
            data(source), data(target), data(scores), data(log_multiplicity), data(mask)};
}

void bind_attend(const Array<1>& indptr, const Array<1>& indices, const Array<2>& x, const Given& source,
                 const Given& target, const Given& scores, const GivenOfEdges& log_multiplicity, const Given& mask,
                 int64_t heads, float slope, int64_t num_own, const Array<2>& out, const Floats<2>& log_sum,
                 const Given& share, const std::optional<Array<2>>& positive, nb::callable empty, Stream stream) {
    const Matrix matrix = matrix_of(indptr, indices);
    require(static_cast<int64_t>(out.shape(0)) == matrix.rows.num_rows && out.shape(1) == x.shape(1),
            "out does not fit the matrix.");
    require_type_of(x, out, positive ? *positive : out);
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    with_type(x.dtype(), [&](auto example) {
        using Real = decltype(example);
        attend(attention<Real>(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, num_own),
               Attended<Real>{as<Real>(out), log_sum.data(), data(share), static_cast<Real*>(data(positive))}, memory,
               stream);
    });
}

void bind_attend_backward(const Array<1>& indptr_t, const Array<1>& indices_t, const Numbers& permutation,
                          const Array<2>& x, const Given& source, const Given& target, const Given& scores,
                          const GivenOfEdges& log_multiplicity, const Given& mask, int64_t heads, float slope,
                          int64_t num_own, const Floats<2>& log_sum, const Floats<2>& along, const Array<2>& grad,
                          const Array<2>& of_x, const Given& of_source, const Given& of_scores, nb::callable empty,
                          Stream stream) {
    const Matrix matrix = matrix_of(indptr_t, indices_t);
    require(static_cast<int64_t>(x.shape(0)) == matrix.rows.num_rows && x.shape(1) == grad.shape(1),
            "rows do not fit the matrix.");
    require(permutation.size() == indices_t.size(), "permutation and indices differ in length.");
    require(!scores == !of_scores, "of_scores is for scores.");
    require_type_of(x, grad, of_x);
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    with_type(x.dtype(), [&](auto example) {
        using Real = decltype(example);
        attend_backward(
            AttentionBackward<Real>{
                attention<Real>(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, num_own),
                permutation.data(), log_sum.data(), along.data(), as<const Real>(grad), as<Real>(of_x),
                data(of_source), data(of_scores)},
            memory, stream);
    });
}

}  // namespace

void bind_aggregation(nb::module_& m) {
    m.def("spmm", bind_spmm, "indptr"_a, "indices"_a, "weights"_a.none(), "order"_a.none(), "diagonal"_a.none(), "x"_a,
          "out"_a, "empty"_a, "stream"_a);
    m.def("edge_dots", bind_edge_dots, "indptr"_a, "indices"_a, "order"_a.none(), "x"_a, "rows"_a, "dots"_a,
          "stream"_a);
    m.def("extremes", bind_extremes, "indptr"_a, "indices"_a, "x"_a, "largest"_a, "out"_a, "ties"_a, "empty"_a,
          "stream"_a);
    m.def("extremes_backward", bind_extremes_backward, "indptr_t"_a, "indices_t"_a, "x"_a, "extreme"_a, "share"_a,
          "grad"_a, "empty"_a, "stream"_a);
    m.def("attend", bind_attend, "indptr"_a, "indices"_a, "x"_a, "source"_a.none(), "target"_a.none(),
          "scores"_a.none(), "log_multiplicity"_a.none(), "mask"_a.none(), "heads"_a, "slope"_a, "num_own"_a, "out"_a,
          "log_sum"_a, "share"_a.none(), "positive"_a.none(), "empty"_a, "stream"_a);
    m.def("attend_backward", bind_attend_backward, "indptr_t"_a, "indices_t"_a, "permutation"_a, "x"_a,
          "source"_a.none(), "target"_a.none(), "scores"_a.none(), "log_multiplicity"_a.none(), "mask"_a.none(),
          "heads"_a, "slope"_a, "num_own"_a, "log_sum"_a, "along"_a, "grad"_a, "of_x"_a, "of_source"_a.none(),
          "of_scores"_a.none(), "empty"_a, "stream"_a);
}

}  // namespace gnnscale::gpu
