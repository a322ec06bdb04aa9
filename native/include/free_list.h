// What several threads use by turns: whoever is done with one leaves it for the next.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

namespace gnnscale {

template <class T>
class FreeList {
  public:
    // One that was left; an empty T{} where there is none.
    T take() {
        std::lock_guard lock(mutex_);
        if (free_.empty()) return T{};
        T item = std::move(free_.back());
        free_.pop_back();
        return item;
    }

    void give(T item) {
        std::lock_guard lock(mutex_);
        free_.push_back(std::move(item));
    }

  private:
    std::mutex mutex_;
    std::vector<T> free_;
};

}  // namespace gnnscale
