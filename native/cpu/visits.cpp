#include "visits.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

constexpr int64_t kVisitsPerThread = 8192;

struct Visit {
    int64_t node;
    int64_t count;
    double score;
};

// The distinct nodes of a row in ascending order; `ids` is put in order for that.
void count(std::vector<int64_t>& ids, std::vector<Visit>& found) {
    std::sort(ids.begin(), ids.end());
    found.clear();
    for (int64_t node : ids) {
        if (found.empty() || found.back().node != node) found.push_back({node, 0, 0.0});
        ++found.back().count;
    }
}

void keep_top(std::vector<Visit>& found, int64_t limit, uint64_t state) {
    for (Visit& visit : found) visit.score = visit.count + uniform(fold(state, visit.node));
    std::nth_element(found.begin(), found.begin() + limit, found.end(), [](const Visit& a, const Visit& b) {
        return a.score > b.score || (a.score == b.score && a.node < b.node);
    });
    found.resize(limit);
    std::sort(found.begin(), found.end(), [](const Visit& a, const Visit& b) { return a.node < b.node; });
}

}  // namespace

Visited top_visits(const Visits& visits, int64_t limit, uint64_t key, int num_threads) {
    // Each row first has the room that it could need.
    const int64_t room = limit < 0 ? visits.width : std::min(limit, visits.width);
    Buffer<int64_t> nodes(visits.rows * room), counts(visits.rows * room), indptr(visits.rows + 1);
    const int parts = parts_for(visits.rows * visits.width, kVisitsPerThread, num_threads);
    indptr[0] = 0;
    run_ranges(visits.rows, parts, [&](int64_t begin, int64_t end) {
        std::vector<int64_t> ids;
        std::vector<Visit> found;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t own = visits.own == nullptr ? -1 : visits.own[r];
            const int64_t* row = visits.visited + r * visits.width;
            ids.clear();
            for (int64_t i = 0; i < visits.width; ++i)
                if (row[i] != -1 && row[i] != own) ids.push_back(row[i]);
            count(ids, found);
            if (static_cast<int64_t>(found.size()) > room) keep_top(found, room, fold(key, r));
            for (size_t i = 0; i < found.size(); ++i) {
                nodes[r * room + i] = found[i].node;
                counts[r * room + i] = found[i].count;
            }
            indptr[r + 1] = found.size();
        }
    });
    for (int64_t r = 0; r < visits.rows; ++r) {
        const int64_t to = indptr[r], size = indptr[r + 1];
        std::copy_n(nodes.data() + r * room, size, nodes.data() + to);
        std::copy_n(counts.data() + r * room, size, counts.data() + to);
        indptr[r + 1] = to + size;
    }
    nodes.resize(indptr[visits.rows]);
    counts.resize(indptr[visits.rows]);
    return {std::move(indptr), std::move(nodes), std::move(counts)};
}

}  // namespace gnnscale
