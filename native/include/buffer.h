// An array in memory that is used again (pool.h): not initialised, growable, and able to hand its memory over.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "pool.h"

namespace gnnscale {

template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t size) { resize(size); }
    Buffer(Buffer&& other) noexcept
        : memory_(std::move(other.memory_)),
          size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }

    void resize(size_t size) {
        if (size > capacity_ || memory_ == nullptr) {
            auto larger = results().take(static_cast<int64_t>((size ? size : 1) * sizeof(T)));
            if (size_ > 0) std::memcpy(larger.get(), memory_.get(), size_ * sizeof(T));
            memory_ = std::move(larger);
            capacity_ = size;
        }
        size_ = size;
    }

    T* data() const { return reinterpret_cast<T*>(memory_.get()); }
    size_t size() const { return size_; }
    T& operator[](size_t i) const { return data()[i]; }

    // The memory itself, which lives as long as the pointer.
    std::shared_ptr<std::byte> release() {
        size_ = capacity_ = 0;
        return std::move(memory_);
    }

  private:
    std::shared_ptr<std::byte> memory_;
    size_t size_ = 0, capacity_ = 0;
};

}  // namespace gnnscale
