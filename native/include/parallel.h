// Work in parts, one thread a part. Threads are started for each call, which costs some 20 us each: there is
// no pool that a fork could break, and small work (see `parts_for`) stays on the calling thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace gnnscale {

// How many parts are worth a thread: each has at least `grain` units of work.
inline int parts_for(int64_t work, int64_t grain, int num_threads) {
    return static_cast<int>(std::clamp<int64_t>(work / grain, 1, std::max(num_threads, 1)));
}

// Runs work(part) for every part in [0, parts); the first exception of a part is thrown again here.
template <class Work>
void run_parts(int parts, const Work& work) {
    if (parts == 1) return work(0);
    std::vector<std::exception_ptr> errors(parts);
    auto guarded = [&](int part) {
        try {
            work(part);
        } catch (...) {
            errors[part] = std::current_exception();
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(parts - 1);
    for (int part = 1; part < parts; ++part) {
        try {
            threads.emplace_back(guarded, part);
        } catch (const std::system_error&) {  // no thread to be had: the work is done here
            guarded(part);
        }
    }
    guarded(0);
    for (auto& thread : threads) thread.join();
    for (auto& error : errors)
        if (error) std::rethrow_exception(error);
}

// Runs work(begin, end) over [0, size) in equal ranges.
template <class Work>
void run_ranges(int64_t size, int parts, const Work& work) {
    run_parts(parts, [&](int part) { work(size * part / parts, size * (part + 1) / parts); });
}

// Runs work(begin, end) over the rows of a CSR structure, in ranges of equal numbers of rows and edges.
template <class Work>
void run_rows(const int64_t* indptr, int64_t rows, int parts, const Work& work) {
    auto boundary = [&](int part) {
        const int64_t target = (indptr[rows] - indptr[0] + rows) / parts * part;
        int64_t low = 0, high = rows;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (indptr[middle] - indptr[0] + middle < target)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    };
    run_parts(parts, [&](int part) { work(boundary(part), part + 1 == parts ? rows : boundary(part + 1)); });
}

}  // namespace gnnscale
