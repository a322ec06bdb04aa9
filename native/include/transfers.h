// Reads and writes of tables of rows, done in the background in the order in which they were issued.
//
// Operations stand in one line. The first is done in parts, by the object's own threads and by whoever waits
// for an operation: on a busy machine, a thread that has to wake up first may come late. No more than
// `num_threads` work at once. What is so small that handing it over would take longer is done by the caller,
// if nothing stands before it.
//
// A forked child has none of the threads: there every method but `close` throws std::runtime_error.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "pool.h"
#include "rows.h"

namespace gnnscale {

// What was done since the statistics were last taken.
struct Statistics {
    int64_t rows_pulled = 0, bytes_pulled = 0, bytes_pushed = 0;
    Ages ages;
};

class Transfers {
  public:
    struct Operation;
    using Ticket = std::shared_ptr<Operation>;

    explicit Transfers(int num_threads);
    ~Transfers();

    // Rows ids[i] become rows[i], (count, width), as of `step`. Both may be changed as soon as it returns.
    // Throws std::out_of_range on an id that is no row, as `pull` does.
    void push(const RowTable& table, const int64_t* ids, int64_t count, const float* rows, int32_t step);

    // Rows ids[i]; `step` is when they will be used.
    Ticket pull(const RowTable& table, const int64_t* ids, int64_t count, int64_t step);

    // The rows, (count, width), once they are there.
    std::shared_ptr<float> wait(const Ticket& ticket);
    bool done(const Ticket& ticket);

    // Waits for everything issued before.
    void flush();

    // Flushes and ends the threads; nothing can be issued after.
    void close();

    Statistics take_statistics();

    // Whether this is a forked child.
    bool is_foreign() const;

  private:
    void check() const;
    bool do_at_once(const Ticket& operation);
    void issue(const Ticket& operation);
    void stand_in_line(const Ticket& operation);
    bool has_work() const;
    void work_on(std::unique_lock<std::mutex>& lock);
    void wait_for(const Operation& operation, std::unique_lock<std::mutex>& lock);
    void run();

    const int num_threads_;
    const pid_t process_;
    const std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
    std::mutex mutex_;
    std::condition_variable work_, done_;
    std::deque<Ticket> line_;
    int working_ = 0;
    bool closed_ = false;
    Statistics statistics_;
    std::vector<std::thread> threads_;
};

}  // namespace gnnscale
