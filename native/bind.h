// What the bindings share: tensors come and go through DLPack, so nothing here knows of torch. The arguments'
// meaning is checked in gnnscale/ops, their memory layout by these types.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "buffer.h"
#include "csr.h"
#include "sampling.h"
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
    T* data = buffer.data();
    using Memory = std::shared_ptr<std::byte>;
    nb::capsule owner(new Memory(buffer.release()), [](void* memory) noexcept { delete static_cast<Memory*>(memory); });
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

// Any array; where its type has to be known, it is asked for.
template <int Dim>
using Array = TensorView<void, Dim>;

constexpr nb::dlpack::dtype kBFloat16 = {static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};

// Null for none; throws std::invalid_argument on another type.
template <class T>
T* data(const std::optional<Array<1>>& array) {
    if (array && array->dtype() != nb::dtype<T>()) throw std::invalid_argument("an array has the wrong dtype.");
    return array ? static_cast<T*>(array->data()) : nullptr;
}

// A CSR structure whose arrays have 32 or 64 bits: what the operations do not read as it is gets copied.
class CsrArgument {
  public:
    CsrArgument(const Array<1>& indptr, const Array<1>& indices, int64_t num_cols);
    const Csr<>& operator*() const { return matrix_; }

  private:
    Buffer<int64_t> wide_;
    Buffer<int32_t> narrow_;
    Csr<> matrix_;
};

}  // namespace gnnscale
