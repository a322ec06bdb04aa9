// The Python face of row gathering and dropout.
#include <memory>

#include "bind.h"
#include "dropout.h"
#include "gather.h"
#include "huge.h"
#include "pool.h"

namespace gnnscale {
namespace {

template <class Index>
void bind_gather_rows(Matrix<const uint8_t> source, Vector<const Index> index, Matrix<uint8_t> out,
                      int num_threads) {
    nb::gil_scoped_release release;
    gather_rows(reinterpret_cast<const std::byte*>(source.data()), source.shape(0), source.shape(1),
                index.data(), index.size(), reinterpret_cast<std::byte*>(out.data()), num_threads);
}

// The same into memory of a pool, to which it returns when the tensor is gone: rows as bytes.
template <class Index>
nb::object bind_gather_new_rows(Matrix<const uint8_t> source, Vector<const Index> index, int num_threads) {
    // Never destroyed: tensors may live as long as the interpreter.
    static const auto& pool = *new std::shared_ptr<Pool>(std::make_shared<Pool>());
    using Block = std::shared_ptr<std::byte>;
    const size_t shape[] = {index.size(), source.shape(1)};
    std::unique_ptr<Block> block;
    {
        nb::gil_scoped_release release;
        block = std::make_unique<Block>(pool->take(shape[0] * shape[1]));
        gather_rows(reinterpret_cast<const std::byte*>(source.data()), source.shape(0), source.shape(1),
                    index.data(), index.size(), block->get(), num_threads);
    }
    std::byte* memory = block->get();
    nb::capsule owner(block.release(), [](void* kept) noexcept { delete static_cast<Block*>(kept); });
    return nb::cast(
        nb::ndarray<nb::pytorch, uint8_t, nb::ndim<2>>(reinterpret_cast<uint8_t*>(memory), 2, shape, owner));
}

void bind_dropout(Vector<const float> x, int64_t keep, uint64_t key, Vector<float> out, int num_threads) {
    nb::gil_scoped_release release;
    dropout(x.data(), x.size(), keep, key, out.data(), num_threads);
}

template <class Index>
void bind_index(nb::module_& m) {
    m.def("gather_rows", bind_gather_rows<Index>, "source"_a.noconvert(), "index"_a.noconvert(),
          "out"_a.noconvert(), "num_threads"_a);
    m.def("gather_new_rows", bind_gather_new_rows<Index>, "source"_a.noconvert(), "index"_a.noconvert(),
          "num_threads"_a);
}

}  // namespace

void bind_rows(nb::module_& m) {
    // Overloads are tried in order: the usual types first.
    bind_index<int64_t>(m);
    bind_index<int32_t>(m);
    m.def(
        "make_huge",
        [](Matrix<const uint8_t> rows) {
            nb::gil_scoped_release release;
            return make_huge(const_cast<uint8_t*>(rows.data()), rows.shape(0) * rows.shape(1));
        },
        "rows"_a.noconvert());
    m.def("dropout", bind_dropout, "x"_a.noconvert(), "keep"_a, "key"_a, "out"_a.noconvert(), "num_threads"_a);
}

}  // namespace gnnscale
