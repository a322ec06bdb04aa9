// What the bindings share: tensors come and go through DLPack, so nothing here knows of torch. The arguments'
// meaning is checked in gnnscale/ops, their memory layout by these types.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "buffer.h"
#include "sampling.h"
#include "sparse.h"
#include "tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace gnnscale {

template <class T>
using Vector = TensorView<T, 1>;
template <class T>
using Matrix = TensorView<T, 2>;

template <class T>
nb::object to_tensor(Buffer<T>&& buffer) {
    const size_t size = buffer.size();
    T* data = buffer.release();
    nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
    return nb::cast(nb::ndarray<nb::pytorch, T, nb::ndim<1>>(data, {size}, owner));
}

inline nb::object to_tensor(LocalIds&& ids) {
    return std::visit([](auto&& buffer) { return to_tensor(std::move(buffer)); }, std::move(ids));
}

template <class Index>
Csc<Index> csc(const Vector<const int64_t>& indptr, const Vector<const Index>& indices) {
    return {indptr.data(), indices.data(), static_cast<int64_t>(indptr.size()) - 1,
            static_cast<int64_t>(indices.size())};
}

template <class Index>
Csr<Index> csr(const Vector<const int64_t>& indptr, const Vector<const Index>& indices, int64_t num_cols) {
    return {indptr.data(), indices.data(), static_cast<int64_t>(indptr.size()) - 1, num_cols,
            static_cast<int64_t>(indices.size())};
}

}  // namespace gnnscale
