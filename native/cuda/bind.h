// What the bindings share: tensors through DLPack on the module's kind of device, the caller's stream as a number.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "kernels.h"
#include "tensor.h"

#ifndef GNNSCALE_ON_HOST
#include <cuda_runtime_api.h>
#endif

namespace nb = nanobind;
using namespace nb::literals;

namespace gnnscale::gpu {

#ifdef GNNSCALE_ON_HOST
using Device = nb::device::cpu;
#else
using Device = nb::device::cuda;
#endif

template <int Dim>
using Array = TensorView<void, Dim, Device>;
template <int Dim>
using Floats = TensorView<float, Dim, Device>;
using Numbers = TensorView<int64_t, 1, Device>;

// Memory that kernels reach: the device's, or pinned memory of the host, which DLPack may call either way.
#ifdef GNNSCALE_ON_HOST
template <class T, int Dim>
using Reached = std::variant<TensorView<T, Dim, nb::device::cpu>>;
#else
template <class T, int Dim>
using Reached = std::variant<TensorView<T, Dim, nb::device::cuda>, TensorView<T, Dim, nb::device::cpu>,
                             TensorView<T, Dim, nb::device::cuda_host>>;
#endif

template <class View>
auto* address(const View& array) {
    return std::visit([](const auto& view) { return view.data(); }, array);
}
template <class View>
auto address(const std::optional<View>& array) -> decltype(address(*array)) {
    return array ? address(*array) : nullptr;
}

constexpr nb::dlpack::dtype kBFloat16 = {static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};

// Makes a device the thread's own for as long as it lives.
class OnDevice {
  public:
#ifdef GNNSCALE_ON_HOST
    explicit OnDevice(int) {}
#else
    explicit OnDevice(int device) {
        cudaGetDevice(&before_);
        if (before_ != device) cudaSetDevice(device);
        changed_ = before_ != device;
    }
    ~OnDevice() {
        if (changed_) cudaSetDevice(before_);
    }

  private:
    int before_ = 0;
    bool changed_ = false;
#endif
};

// Memory of the framework's: `empty(bytes)` gives a tensor of bytes. What is given back after the call is used again
// by the same stream alone.
class FrameworkMemory final : public Allocator {
  public:
    explicit FrameworkMemory(nb::callable empty) : empty_(std::move(empty)) {}

    void* take(int64_t bytes) override {
        taken_.push_back(nb::cast<TensorView<uint8_t, 1, Device>>(empty_(bytes)));
        return taken_.back().data();
    }

  private:
    nb::callable empty_;
    std::vector<TensorView<uint8_t, 1, Device>> taken_;
};

template <class View>
auto* data(const std::optional<View>& view) {
    return view ? view->data() : nullptr;
}

inline void require(bool fits, const char* otherwise) {
    if (!fits) throw std::invalid_argument(otherwise);
}

inline Integers integers(const Array<1>& array) {
    const bool wide = array.dtype() == nb::dtype<int64_t>();
    require(wide || array.dtype() == nb::dtype<int32_t>(), "indptr and indices must be int32 or int64.");
    return {array.data(), wide};
}

inline Matrix matrix_of(const Array<1>& indptr, const Array<1>& indices) {
    require(indptr.size() > 0, "indptr is empty; a matrix of n rows has n + 1 pointers.");
    return {{integers(indptr), static_cast<int64_t>(indptr.size()) - 1, static_cast<int64_t>(indices.size())},
            integers(indices)};
}

}  // namespace gnnscale::gpu
