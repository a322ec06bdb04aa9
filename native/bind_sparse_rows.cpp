// The Python face of products with rows that are mostly zero.
#include "bind.h"
#include "sparse_rows.h"

namespace gnnscale {
namespace {

void bind_multiply(Vector<const int64_t> indptr, Vector<const int32_t> indices, Vector<const float> values,
                   std::optional<Vector<const int64_t>> rows, int64_t num_cols, int64_t keep, uint64_t key,
                   bool transposed, Matrix<const float> dense, Matrix<float> out, int num_threads) {
    nb::gil_scoped_release release;
    const int64_t matrix_rows = static_cast<int64_t>(indptr.size()) - 1;
    const SparseRows x = {indptr.data(),
                          indices.data(),
                          values.data(),
                          matrix_rows,
                          num_cols,
                          static_cast<int64_t>(indices.size()),
                          rows ? rows->data() : nullptr,
                          rows ? static_cast<int64_t>(rows->size()) : matrix_rows,
                          keep,
                          key};
    (transposed ? multiply_rows_transposed : multiply_rows)(x, dense.data(), dense.shape(1), out.data(),
                                                            num_threads);
}

}  // namespace

void bind_sparse_rows(nb::module_& m) {
    m.def("multiply_rows", bind_multiply, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "rows"_a.noconvert().none(), "num_cols"_a, "keep"_a, "key"_a, "transposed"_a,
          "dense"_a.noconvert(), "out"_a.noconvert(), "num_threads"_a);
}

}  // namespace gnnscale
