// The Python face of row gathering and dropout.
#include "bind.h"
#include "dropout.h"
#include "gather.h"

namespace gnnscale {
namespace {

template <class Index>
void bind_gather_rows(Matrix<const uint8_t> source, Vector<const Index> index, Matrix<uint8_t> out,
                      int num_threads) {
    nb::gil_scoped_release release;
    gather_rows(reinterpret_cast<const std::byte*>(source.data()), source.shape(0), source.shape(1),
                index.data(), index.size(), reinterpret_cast<std::byte*>(out.data()), num_threads);
}

void bind_dropout(Vector<const float> x, int64_t keep, uint64_t key, Vector<float> out, int num_threads) {
    nb::gil_scoped_release release;
    dropout(x.data(), x.size(), keep, key, out.data(), num_threads);
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("gather_rows", bind_gather_rows<Index>, "source"_a.noconvert(), "index"_a.noconvert(),
          "out"_a.noconvert(), "num_threads"_a);
}

}  // namespace

void bind_rows(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    m.def("dropout", bind_dropout, "x"_a.noconvert(), "keep"_a, "key"_a, "out"_a.noconvert(), "num_threads"_a);
}

}  // namespace gnnscale
