// The threads of one operation. They are OpenMP's, whose runtime torch and DGL have loaded already, so all three share
// its threads: for some milliseconds after a parallel section those look for the next one, at the cost of whoever else
// wants their cores, and threads of our own would have to wait for them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

namespace gnnscale {

// OpenMP's threads do not survive a fork, and GNU's runtime would wait for them for ever. So a child does without if its
// parent had some, whether it was for us, for torch or for DGL.
bool may_have_threads();

// The exception of the earliest of pieces of work, which are done in any order.
class FirstError {
  public:
    template <class Work>
    void guard(int64_t piece, const Work& work) {
        try {
            work();
        } catch (...) {
            std::lock_guard lock(mutex_);
            if (piece < piece_.load()) {
                piece_.store(piece);
                error_ = std::current_exception();
            }
        }
    }
    bool before(int64_t piece) const { return piece_.load() < piece; }
    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

  private:
    std::mutex mutex_;
    std::atomic<int64_t> piece_{INT64_MAX};
    std::exception_ptr error_;
};

class Team {
  public:
    explicit Team(int num_threads) : num_threads_(num_threads) {}

    // Calls work() on up to `parts` threads, this one among them; the first to come does what is left to do. An exception
    // is thrown again; of several, one.
    template <class Work>
    void run(int parts, const Work& work) const {
        const int threads = std::min(parts, num_threads_);
        if (threads <= 1 || !may_have_threads()) return work();
        std::mutex mutex;
        std::exception_ptr error;
#pragma omp parallel num_threads(threads)
        try {
            work();
        } catch (...) {
            std::lock_guard lock(mutex);
            error = std::current_exception();
        }
        if (error) std::rethrow_exception(error);
    }

    // Runs work(begin, end) over [0, size) in blocks of `block`, each by whoever is free, the earlier ones first. Of several
    // exceptions, that of the earliest block is thrown again: the one that a single thread would meet.
    template <class Work>
    void run(int64_t size, int64_t block, int parts, const Work& work) const {
        std::atomic<int64_t> next{0};
        FirstError error;
        run(static_cast<int>(std::min<int64_t>(parts, (size + block - 1) / block)), [&] {
            for (int64_t begin; (begin = next.fetch_add(block)) < size && !error.before(begin);)
                error.guard(begin, [&] { work(begin, std::min(size, begin + block)); });
        });
        error.rethrow();
    }

  private:
    const int num_threads_;
};

// What has to be done in order behind work that ends in any order: by whoever ends a piece that is next in line,
// for it and for all that have ended behind it. Nobody waits.
class InOrder {
  public:
    explicit InOrder(int64_t pieces) : ended_(pieces) {}

    // Piece number `piece` has ended; follow(p) is called once for each piece p, in their order, never twice at once.
    template <class Follow>
    void end(int64_t piece, const Follow& follow) {
        ended_[piece].store(true);
        const auto ready = [&](int64_t p) { return p < static_cast<int64_t>(ended_.size()) && ended_[p].load(); };
        // Whoever follows looks again after letting go, so that none is left behind.
        while (ready(head_.load()) && !busy_.exchange(true)) {
            int64_t head = head_.load();
            for (; ready(head); ++head) {
                follow(head);
                head_.store(head + 1);
            }
            busy_.store(false);
        }
    }

  private:
    std::vector<std::atomic<bool>> ended_;
    std::atomic<int64_t> head_{0};
    std::atomic<bool> busy_{false};
};

}  // namespace gnnscale
