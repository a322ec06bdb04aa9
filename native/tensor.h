// Tensors as arguments: what nanobind's ndarray does, by a shorter way. Through DLPack, so nothing here knows of torch.
//
// A tensor's `__dlpack__` is Python code in torch and takes 5 us, and a training step on a small graph hands over some
// 60 tensors. Newer frameworks tell where a tensor lies by a C function (DLPack 1.3's exchange interface); where there
// is none, or the tensor is of a subclass, nanobind asks as ever.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

namespace gnnscale {

namespace nb = nanobind;

// As <dlpack/dlpack.h> has them.
struct ExchangedTensor {
    void* data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t dtype_code, dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct ExchangeInterface {
    uint32_t major, minor;
    void* older;
    void *allocate, *import_managed, *export_managed;
    int (*view)(void* object, ExchangedTensor* out);
    void* current_stream;
};

// That of a class itself, not of its base: a subclass may keep its numbers elsewhere. Null where there is none. The
// last class is remembered.
inline const ExchangeInterface* exchange_interface(PyTypeObject* type) {
    static PyTypeObject* known = nullptr;
    static const ExchangeInterface* found = nullptr;
    if (type == known) return found;
    PyObject* attributes = type->tp_dict;
    PyObject* capsule =
        attributes ? PyDict_GetItemString(attributes, "__dlpack_c_exchange_api__") : nullptr;
    if (!capsule || !PyCapsule_IsValid(capsule, "dlpack_exchange_api")) return nullptr;
    auto* api = static_cast<const ExchangeInterface*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (api->major != 1) return nullptr;
    Py_INCREF(type);
    known = type;
    return found = api;
}

// A contiguous tensor of `Dim` dimensions on a kind of device, which it keeps alive; of any type where T is void. Copied
// and destroyed with the GIL held, as arguments are.
template <class T, int Dim, class Device = nb::device::cpu>
class TensorView {
  public:
    using Array = std::conditional_t<std::is_void_v<T>, nb::ndarray<nb::ndim<Dim>, nb::c_contig, Device>,
                                     nb::ndarray<T, nb::ndim<Dim>, nb::c_contig, Device>>;

    TensorView() = default;
    explicit TensorView(Array array)
        : data_(static_cast<T*>(array.data())),
          dtype_(array.dtype()),
          device_id_(array.device_id()),
          array_(std::move(array)) {
        for (int d = 0; d < Dim; ++d) shape_[d] = static_cast<int64_t>(array_.shape(d));
    }

    // Whether the tensor fits; nothing if it cannot be had by the short way.
    std::optional<bool> take(PyObject* object) {
        const ExchangeInterface* api = exchange_interface(Py_TYPE(object));
        if (!api) return {};
        ExchangedTensor tensor;
        if (api->view(object, &tensor) != 0) {
            PyErr_Clear();
            return {};
        }
        dtype_ = {tensor.dtype_code, tensor.dtype_bits, tensor.dtype_lanes};
        if constexpr (!std::is_void_v<T>)
            if (dtype_ != nb::dtype<std::remove_const_t<T>>()) return false;
        if (tensor.device_type != Device::value || tensor.ndim != Dim) return false;
        int64_t stride = 1, size = 1;
        for (int d = Dim - 1; d >= 0; --d) {
            shape_[d] = tensor.shape[d];
            size *= shape_[d];
            if (tensor.strides && shape_[d] > 1 && tensor.strides[d] != stride) stride = -1;
            if (stride >= 0) stride *= shape_[d];
        }
        if (stride < 0 && size > 0) return false;
        data_ = static_cast<T*>(static_cast<void*>(static_cast<char*>(tensor.data) + tensor.byte_offset));
        device_id_ = tensor.device_id;
        owner_ = nb::borrow(object);
        return true;
    }

    T* data() const { return data_; }
    nb::dlpack::dtype dtype() const { return dtype_; }
    int device_id() const { return device_id_; }
    size_t shape(int d) const { return static_cast<size_t>(shape_[d]); }
    size_t size() const {
        size_t size = 1;
        for (int d = 0; d < Dim; ++d) size *= shape(d);
        return size;
    }

  private:
    T* data_ = nullptr;
    nb::dlpack::dtype dtype_ = {};
    int device_id_ = 0;
    int64_t shape_[Dim] = {};
    Array array_;        // keeps what nanobind gave,
    nb::object owner_;  // and this what was had by the short way
};

}  // namespace gnnscale

namespace nanobind::detail {

template <class T, int Dim, class Device>
struct type_caster<gnnscale::TensorView<T, Dim, Device>> {
    using View = gnnscale::TensorView<T, Dim, Device>;
    NB_TYPE_CASTER(View, make_caster<typename View::Array>::Name)

    bool from_python(handle src, uint8_t flags, cleanup_list* cleanup) noexcept {
        if (const std::optional<bool> fits = value.take(src.ptr())) return *fits;
        object asked;
        if constexpr (Device::value != device::cpu::value) {
            // Asked for without a stream, a GPU's tensor makes the default stream wait for the caller's; -1: nobody waits.
            try {
                asked = src.attr("__dlpack__")(arg("stream") = -1);
            } catch (python_error&) {
                return false;
            }
            src = asked;
        }
        make_caster<typename View::Array> array;
        // Not converted: what is written to a copy would be lost.
        const auto as_it_is = static_cast<uint8_t>(flags & ~static_cast<uint8_t>(cast_flags::convert));
        if (!array.from_python(src, as_it_is, cleanup)) return false;
        value = View(std::move(array.value));
        return true;
    }
};

}  // namespace nanobind::detail
