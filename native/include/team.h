// Threads for the length of one operation that has several parallel sections: starting them anew for each costs
// some 20 us a thread. They end with the operation, so a fork finds none of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace gnnscale {

class Team {
  public:
    explicit Team(int num_threads) : num_threads_(num_threads) {}
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team() {
        ended_.store(true);
        section_.fetch_add(1);
        for (auto& thread : threads_) thread.join();
    }

    // Runs work() on `parts` threads, this one among them. An exception is thrown again; of several, one.
    template <class Work>
    void run(int parts, const Work& work) {
        std::mutex mutex;
        std::exception_ptr error;
        const auto guarded = [&] {
            try {
                work();
            } catch (...) {
                std::lock_guard lock(mutex);
                error = std::current_exception();
            }
        };
        const int helpers = std::min(parts, num_threads_) - 1;
        if (helpers > 0)
            together(helpers, guarded);
        else
            guarded();
        if (error) std::rethrow_exception(error);
    }

    // Runs work(begin, end) over [0, size) in blocks of `block`, each by whoever is free, the earlier ones first.
    template <class Work>
    void run(int64_t size, int64_t block, int parts, const Work& work) {
        std::atomic<int64_t> next{0};
        run(static_cast<int>(std::min<int64_t>(parts, (size + block - 1) / block)), [&] {
            for (int64_t begin; (begin = next.fetch_add(block)) < size;) work(begin, std::min(size, begin + block));
        });
    }

  private:
    void together(int helpers, const std::function<void()>& work) {
        start(helpers);
        work_ = &work;
        working_.store(static_cast<int>(threads_.size()));
        section_.fetch_add(1);  // what the threads wait for
        work();
        wait([&] { return working_.load() == 0; });
    }

    void start(int helpers) {
        while (static_cast<int>(threads_.size()) < helpers) {
            try {
                threads_.emplace_back([this, seen = section_.load()] { serve(seen); });
            } catch (const std::system_error&) {  // no more threads to be had
                break;
            }
        }
    }

    void serve(int64_t seen) {
        for (;; ++seen) {
            wait([&] { return section_.load() != seen; });
            if (ended_.load()) return;
            (*work_)();
            working_.fetch_sub(1);
        }
    }

    // Sections follow each other within microseconds, so waiting is looking; where others need the processor, they
    // get it.
    template <class Done>
    static void wait(const Done& done) {
        for (int looks = 0; !done(); ++looks) {
            if (looks > 200) std::this_thread::yield();
#if defined(__x86_64__)
            else __builtin_ia32_pause();
#endif
        }
    }

    const int num_threads_;
    std::vector<std::thread> threads_;
    const std::function<void()>* work_ = nullptr;
    std::atomic<int64_t> section_{0};
    std::atomic<int> working_{0};
    std::atomic<bool> ended_{false};
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
