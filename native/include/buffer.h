// An array of malloc'ed memory: not initialised, growable in place, and able to hand its memory over.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace gnnscale {

template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t size) { resize(size); }
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Buffer() { std::free(data_); }

    void resize(size_t size) {
        void* memory = std::realloc(data_, (size ? size : 1) * sizeof(T));
        if (memory == nullptr) throw std::bad_alloc();
        data_ = static_cast<T*>(memory);
        size_ = size;
    }

    T* data() const { return data_; }
    size_t size() const { return size_; }
    T& operator[](size_t i) const { return data_[i]; }

    // The memory itself, to be given to free() by the one who takes it.
    T* release() {
        size_ = 0;
        return std::exchange(data_, nullptr);
    }

  private:
    T* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace gnnscale
