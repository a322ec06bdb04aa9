#include "pool.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "huge.h"

namespace gnnscale {
namespace {

constexpr int64_t kLine = 64, kMemory = 1024;

// Sizes in steps of an eighth or less, so that a block fits needs that are nearly the same.
int64_t rounded(int64_t bytes) {
    int64_t unit = kLine;
    while (unit * 16 < bytes) unit *= 2;
    return std::max<int64_t>((bytes + unit - 1) / unit, 1) * unit;
}

std::byte* allocate(int64_t bytes) {
    const bool huge = bytes >= kHugePage;
    const int64_t unit = huge ? kHugePage : kLine;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit));
    if (memory == nullptr) throw std::bad_alloc();
    wish_huge(memory, bytes);
    return memory;
}

}  // namespace

Pool::Pool() : process_(getpid()) {}

Pool::~Pool() {
    for (const Block& block : unused_) std::free(block.memory);
}

std::shared_ptr<std::byte> Pool::take(int64_t bytes) {
    Block block{nullptr, rounded(bytes)};
    // In a forked child the mutex may be held for ever by a thread that only the parent has.
    if (getpid() != process_) return {allocate(block.bytes), [](std::byte* memory) { std::free(memory); }};
    std::unique_lock lock(mutex_);
    const auto fits = [&](const Block& other) { return other.bytes == block.bytes; };
    const auto found = std::find_if(unused_.begin(), unused_.end(), fits);
    if (found != unused_.end()) {
        block = *found;
        unused_bytes_ -= block.bytes;
        unused_.erase(found);
    } else {
        lock.unlock();
        block.memory = allocate(block.bytes);
        lock.lock();
    }
    used_bytes_ += block.bytes;
    largest_need_ = std::max(largest_need_, used_bytes_);
    return {block.memory, [pool = shared_from_this(), block](std::byte*) { pool->give_back(block); }};
}

void Pool::give_back(Block block) {
    if (getpid() != process_) return std::free(block.memory);
    std::list<Block> freed;
    {
        std::lock_guard lock(mutex_);
        // What was needed once is forgotten in some thousand blocks.
        largest_need_ -= (largest_need_ - used_bytes_) / kMemory;
        used_bytes_ -= block.bytes;
        unused_bytes_ += block.bytes;
        unused_.push_front(block);
        while (unused_bytes_ > largest_need_ + largest_need_ / 8) {
            unused_bytes_ -= unused_.back().bytes;
            freed.splice(freed.begin(), unused_, std::prev(unused_.end()));
        }
    }
    for (const Block& old : freed) std::free(old.memory);
}

Pool& results() {
    static auto* pool = new std::shared_ptr<Pool>(std::make_shared<Pool>());
    return **pool;
}

}  // namespace gnnscale
