// Work in parts, which threads take as they come; small work (see `parts_for`) stays on the calling thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "team.h"

namespace gnnscale {

// How many parts are worth a thread: each has at least `grain` units of work.
inline int parts_for(int64_t work, int64_t grain, int num_threads) {
    return static_cast<int>(std::clamp<int64_t>(work / grain, 1, std::max(num_threads, 1)));
}

// Runs work(part) for every part in [0, parts), on so many threads at most; the first part's exception is thrown again.
template <class Work>
void run_parts(int parts, int num_threads, const Work& work) {
    if (parts == 1) return work(0);
    Team(num_threads).run(parts, 1, parts, [&](int64_t part, int64_t) { work(static_cast<int>(part)); });
}

// Ranges are smaller than a thread's share, so that one whose core is busy otherwise does fewer of them.
inline int ranges_for(int num_threads) { return num_threads == 1 ? 1 : 4 * num_threads; }

// Runs work(begin, end) over [0, size) in equal ranges.
template <class Work>
void run_ranges(int64_t size, int num_threads, const Work& work) {
    const int64_t parts = ranges_for(num_threads);
    run_parts(parts, num_threads, [&](int part) { work(size * part / parts, size * (part + 1) / parts); });
}

// Runs work(begin, end) over the rows of a CSR structure, in ranges of equal numbers of rows and edges.
template <class Work>
void run_rows(const int64_t* indptr, int64_t rows, int num_threads, const Work& work) {
    const int parts = ranges_for(num_threads);
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
    run_parts(parts, num_threads,
              [&](int part) { work(boundary(part), part + 1 == parts ? rows : boundary(part + 1)); });
}

}  // namespace gnnscale
