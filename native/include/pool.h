// Memory for rows on their way, used again: a fresh block costs a page fault for every 4 KB, which is more
// than filling it.
//
// Blocks that were given back are kept up to as many bytes as have been in use at once of late, so that a pool
// holds at most twice the largest need; the longest unused are freed first. Blocks may outlive the pool's user.
// A forked child has no pool: its blocks are fresh, and freed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

namespace gnnscale {

class Pool : public std::enable_shared_from_this<Pool> {
  public:
    Pool();
    ~Pool();

    // Not initialised, at a multiple of 64 bytes. It goes back when the last copy of the pointer is gone.
    std::shared_ptr<std::byte> take(int64_t bytes);

  private:
    struct Block {
        std::byte* memory;
        int64_t bytes;
    };
    void give_back(Block block);

    const pid_t process_;
    std::mutex mutex_;
    std::list<Block> unused_;  // the latest in front
    int64_t unused_bytes_ = 0, used_bytes_ = 0, largest_need_ = 0;
};

// The pool of what operations give to Python; never destroyed, as tensors may outlive anything.
Pool& results();

}  // namespace gnnscale
