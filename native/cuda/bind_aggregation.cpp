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

void bind_extremes(const Array<1>& indptr, const Array<1>& indices, const Floats<2>& x, bool largest,
                   const Floats<2>& out, const Floats<2>& ties, nb::callable empty, Stream stream) {
    for (const auto* rows : {&out, &ties})
        require(rows->shape(0) + 1 == indptr.size() && rows->shape(1) == x.shape(1), "out does not fit the matrix.");
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    extremes(matrix_of(indptr, indices), x.data(), static_cast<int64_t>(x.shape(1)), largest, out.data(), ties.data(),
             memory, stream);
}

void bind_extremes_backward(const Array<1>& indptr_t, const Array<1>& indices_t, const Floats<2>& x,
                            const Floats<2>& extreme, const Floats<2>& share, const Floats<2>& grad,
                            nb::callable empty, Stream stream) {
    require(x.shape(0) + 1 == indptr_t.size(), "x does not fit the matrix.");
    require(grad.shape(0) == x.shape(0) && grad.shape(1) == x.shape(1), "grad does not fit x.");
    for (const auto* rows : {&extreme, &share}) require(rows->shape(1) == x.shape(1), "rows differ in width.");
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    extremes_backward(matrix_of(indptr_t, indices_t), x.data(), extreme.data(), share.data(),
                      static_cast<int64_t>(x.shape(1)), grad.data(), memory, stream);
}

using Given = std::optional<Floats<2>>;
using GivenOfEdges = std::optional<Floats<1>>;

Attention attention(const Matrix& matrix, const Floats<2>& x, const Given& source, const Given& target,
                    const Given& scores, const GivenOfEdges& log_multiplicity, const Given& mask, int64_t heads,
                    float slope, int64_t num_own) {
    require(heads > 0 && static_cast<int64_t>(x.shape(1)) % heads == 0, "the heads cannot share the columns of x.");
    require(scores || (source && target), "scores are missing; give source and target, or scores of the edges.");
    for (const auto* values : {&source, &target, &scores, &mask})
        require(!*values || static_cast<int64_t>((*values)->shape(1)) == heads, "an array has other heads.");
    require(!log_multiplicity || static_cast<int64_t>(log_multiplicity->size()) == matrix.rows.num_edges,
            "log_multiplicity and indices differ in length.");
    return {matrix,       heads,        static_cast<int64_t>(x.shape(1)) / heads, num_own, slope, x.data(),
            data(source), data(target), data(scores), data(log_multiplicity), data(mask)};
}

void bind_attend(const Array<1>& indptr, const Array<1>& indices, const Floats<2>& x, const Given& source,
                 const Given& target, const Given& scores, const GivenOfEdges& log_multiplicity, const Given& mask,
                 int64_t heads, float slope, int64_t num_own, const Floats<2>& out, const Floats<2>& log_sum,
                 const Given& share, const Given& positive, nb::callable empty, Stream stream) {
    const Matrix matrix = matrix_of(indptr, indices);
    const Attention a = attention(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, num_own);
    require(static_cast<int64_t>(out.shape(0)) == matrix.rows.num_rows && out.shape(1) == x.shape(1),
            "out does not fit the matrix.");
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    attend(a, {out.data(), log_sum.data(), data(share), data(positive)}, memory, stream);
}

void bind_attend_backward(const Array<1>& indptr_t, const Array<1>& indices_t, const Numbers& permutation,
                          const Floats<2>& x, const Given& source, const Given& target, const Given& scores,
                          const GivenOfEdges& log_multiplicity, const Given& mask, int64_t heads, float slope,
                          int64_t num_own, const Floats<2>& log_sum, const Floats<2>& along, const Floats<2>& grad,
                          const Floats<2>& of_x, const Given& of_source, const Given& of_scores, nb::callable empty,
                          Stream stream) {
    const Matrix matrix = matrix_of(indptr_t, indices_t);
    const Attention a = attention(matrix, x, source, target, scores, log_multiplicity, mask, heads, slope, num_own);
    require(static_cast<int64_t>(x.shape(0)) == matrix.rows.num_rows && x.shape(1) == grad.shape(1),
            "rows do not fit the matrix.");
    require(permutation.size() == indices_t.size(), "permutation and indices differ in length.");
    require(!scores == !of_scores, "of_scores is for scores.");
    const OnDevice device(x.device_id());
    FrameworkMemory memory(std::move(empty));
    attend_backward({a, permutation.data(), log_sum.data(), along.data(), grad.data(), of_x.data(), data(of_source),
                     data(of_scores)},
                    memory, stream);
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
