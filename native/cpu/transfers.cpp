#include "transfers.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "multiversion.h"

namespace gnnscale {
namespace {

// Handing an operation over and being woken up costs some 50 us.
constexpr int64_t kBytesAtOnce = 256 << 10;
constexpr int64_t kBytesOfPart = 512 << 10;

int parts_of(int64_t bytes, int64_t most) {
    return static_cast<int>(std::clamp<int64_t>(bytes / kBytesOfPart, 1, most));
}

MULTIVERSION bool all_below(const int64_t* ids, int64_t count, uint64_t limit) {
    uint64_t outside = 0;
    for (int64_t i = 0; i < count; ++i) outside |= static_cast<uint64_t>(ids[i]) >= limit;
    return !outside;
}

void check_ids(const RowTable& table, const int64_t* ids, int64_t count) {
    if (all_below(ids, count, table.num_rows)) return;
    int64_t i = 0;
    while (ids[i] >= 0 && ids[i] < table.num_rows) ++i;
    throw std::out_of_range("ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                            "; the table has " + std::to_string(table.num_rows) + " rows");
}

}  // namespace

struct Transfers::Operation {
    RowTable table;
    int64_t count;
    int64_t step;
    bool is_push;
    // In the blocks below, or the caller's where he waits until all is done.
    const int64_t* ids;
    const float* source;  // of a push
    float* target;        // of a pull
    int parts = 1;
    std::shared_ptr<std::byte> ids_block = nullptr, rows_block = nullptr;
    // What follows changes under the mutex.
    int begun = 0, ended = 0;
    bool done = false;

    int64_t bytes() const { return count * table.width * static_cast<int64_t>(sizeof(float)); }

    void copy_ids(Pool& pool) {
        ids_block = pool.take(count * sizeof(int64_t));
        std::memcpy(ids_block.get(), ids, count * sizeof(int64_t));
        ids = reinterpret_cast<const int64_t*>(ids_block.get());
    }

    void copy_rows(Pool& pool) {
        rows_block = pool.take(bytes());
        std::memcpy(rows_block.get(), source, bytes());
        source = reinterpret_cast<const float*>(rows_block.get());
    }

    Ages work(int part) const {
        Ages ages;
        if (is_push)
            write_rows(table, ids, count, source, static_cast<int32_t>(step), part, parts);
        else
            read_rows(table, ids, count, target, step, part, parts, ages);
        return ages;
    }
};

Transfers::Transfers(int num_threads) : num_threads_(std::max(num_threads, 1)), process_(getpid()) {}

Transfers::~Transfers() { close(); }

void Transfers::push(const RowTable& table, const int64_t* ids, int64_t count, const float* rows,
                     int32_t step) {
    check();
    check_ids(table, ids, count);
    if (count == 0) return;
    auto operation = std::make_shared<Operation>(Operation{table, count, step, true, ids, rows, nullptr});
    // Each part looks at all ids, so there is one for each thread.
    operation->parts = parts_of(operation->bytes(), num_threads_);
    if (operation->bytes() <= kBytesAtOnce && do_at_once(operation)) return;
    operation->copy_ids(*pool_);
    operation->copy_rows(*pool_);
    issue(operation);
}

Transfers::Ticket Transfers::pull(const RowTable& table, const int64_t* ids, int64_t count, int64_t step) {
    check();
    check_ids(table, ids, count);
    auto operation = std::make_shared<Operation>(Operation{table, count, step, false, ids, nullptr, nullptr});
    operation->rows_block = pool_->take(operation->bytes());
    operation->target = reinterpret_cast<float*>(operation->rows_block.get());
    operation->parts = parts_of(operation->bytes(), count);
    operation->done = count == 0;
    if (operation->done || (operation->bytes() <= kBytesAtOnce && do_at_once(operation))) return operation;
    operation->copy_ids(*pool_);
    issue(operation);
    return operation;
}

std::shared_ptr<float> Transfers::wait(const Ticket& ticket) {
    check();
    std::unique_lock lock(mutex_);
    wait_for(*ticket, lock);
    return {ticket->rows_block, ticket->target};
}

bool Transfers::done(const Ticket& ticket) {
    check();
    std::lock_guard lock(mutex_);
    return ticket->done;
}

void Transfers::flush() {
    check();
    std::unique_lock lock(mutex_);
    if (line_.empty()) return;
    const Ticket last = line_.back();
    wait_for(*last, lock);
}

void Transfers::close() {
    if (is_foreign()) return;
    {
        std::unique_lock lock(mutex_);
        closed_ = true;
        while (!line_.empty()) {
            const Ticket last = line_.back();
            wait_for(*last, lock);
        }
    }
    work_.notify_all();
    std::vector<std::thread> threads;
    {
        std::lock_guard lock(mutex_);
        threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
}

Statistics Transfers::take_statistics() {
    check();
    std::lock_guard lock(mutex_);
    return std::exchange(statistics_, {});
}

bool Transfers::is_foreign() const { return getpid() != process_; }

void Transfers::check() const {
    if (is_foreign())
        throw std::runtime_error("this store's worker belongs to process " + std::to_string(process_) +
                                 "; make or open the store in the process that uses it");
}

// Unless something stands before it.
bool Transfers::do_at_once(const Ticket& operation) {
    std::unique_lock lock(mutex_);
    if (!line_.empty()) return false;
    stand_in_line(operation);
    if (operation->parts > 1) work_.notify_all();
    wait_for(*operation, lock);
    return true;
}

void Transfers::issue(const Ticket& operation) {
    std::lock_guard lock(mutex_);
    stand_in_line(operation);
    work_.notify_all();
}

void Transfers::stand_in_line(const Ticket& operation) {
    if (closed_) throw std::runtime_error("this store is closed; make or open another");
    line_.push_back(operation);
    try {
        while (static_cast<int>(threads_.size()) < num_threads_) threads_.emplace_back([this] { run(); });
    } catch (const std::system_error&) {  // no thread to be had: those who wait do the work
    }
}

bool Transfers::has_work() const {
    return !line_.empty() && line_.front()->begun < line_.front()->parts && working_ < num_threads_;
}

// One part of the first operation.
void Transfers::work_on(std::unique_lock<std::mutex>& lock) {
    const Ticket operation = line_.front();
    const int part = operation->begun++;
    ++working_;
    lock.unlock();
    const Ages ages = operation->work(part);
    lock.lock();
    --working_;
    statistics_.ages.add(ages);
    if (++operation->ended < operation->parts) return;
    const int64_t bytes = operation->table.bytes(operation->count);
    if (operation->is_push) {
        statistics_.bytes_pushed += bytes;
        operation->rows_block.reset();
    } else {
        statistics_.rows_pulled += operation->count;
        statistics_.bytes_pulled += bytes;
    }
    operation->ids_block.reset();
    operation->done = true;
    line_.pop_front();
    done_.notify_all();
    if (!line_.empty()) work_.notify_all();
}

void Transfers::wait_for(const Operation& operation, std::unique_lock<std::mutex>& lock) {
    while (!operation.done)
        if (has_work())
            work_on(lock);
        else
            done_.wait(lock);
}

void Transfers::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        work_.wait(lock, [this] { return has_work() || (closed_ && line_.empty()); });
        if (!has_work()) return;
        work_on(lock);
    }
}

}  // namespace gnnscale
