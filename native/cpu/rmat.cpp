#include "rmat.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "huge.h"
#include "multiversion.h"
#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

constexpr int kBatch = 256;
constexpr int64_t kDrawsPerThread = 1 << 16;
constexpr int kMostParts = 8;  // 8 bytes a node each

// Edges of a batch of draws, as rows and columns of the matrix; and what becomes of them: source[i] at
// place[i].
struct Batch {
    uint32_t row[kBatch], column[kBatch];
    int count;
    int64_t place[2 * kBatch];
    int32_t source[2 * kBatch];
    int size;
};

MULTIVERSION void draw_cells(const Rmat& rmat, const uint32_t* table, int64_t first, int count, Batch& out) {
    uint64_t state[kBatch];
    for (int i = 0; i < count; ++i) {
        state[i] = fold(rmat.key, first + i);
        out.row[i] = out.column[i] = 0;
    }
    const int words = (rmat.levels + 7) / 8;
    for (int j = 0; j < words; ++j)
        for (int i = 0; i < count; ++i) {
            const uint64_t word = fold(state[i], j);
            uint32_t row = out.row[i], column = out.column[i];
            for (int half = 0; half < 2; ++half) {
                const uint32_t h = static_cast<uint32_t>(word >> (32 * half));
                const uint32_t t = table[h & 255];
                const uint32_t outcome = ((h >> 8) < (t >> 8) ? h : t) & 255;
                row = row << 4 | outcome >> 4;
                column = column << 4 | (outcome & 15);
            }
            out.row[i] = row;
            out.column[i] = column;
        }
    const int excess = 8 * words - rmat.levels;
    for (int i = 0; i < count; ++i) {
        out.row[i] >>= excess;
        out.column[i] >>= excess;
    }
}

// Each part of the draws has counters of its own, which threads would otherwise take from one another's caches.
int num_parts(const Rmat& rmat) {
    return parts_for(rmat.draws, kDrawsPerThread, std::min(rmat.num_threads, kMostParts));
}

// Calls ask, then take, then put for each batch of the edges of all draws, with the number of the part that
// they belong to. Between two calls for a batch there is work for others, so that memory which the first asks
// for is there for the second.
template <class Ask, class Take, class Put>
void for_edges(const Rmat& rmat, const Ask& ask, const Take& take, const Put& put) {
    uint32_t table[256];
    for (int i = 0; i < 256; ++i) table[i] = static_cast<uint32_t>(rmat.table[i]);
    const auto nodes = static_cast<uint32_t>(rmat.num_nodes);
    const auto draw = [&](int64_t first, int count, Batch& batch) {
        draw_cells(rmat, table, first, count, batch);
        int kept = 0;
        for (int i = 0; i < count; ++i) {
            const uint32_t row = batch.row[i], column = batch.column[i];
            batch.row[kept] = row;
            batch.column[kept] = column;
            kept += row < nodes && column < nodes && row != column;
        }
        batch.count = kept;
    };
    const int parts = num_parts(rmat);
    run_parts(parts, parts, [&](int part) {
        const int64_t begin = rmat.draws / parts * part;
        const int64_t end = part + 1 == parts ? rmat.draws : rmat.draws / parts * (part + 1);
        const int64_t batches = (end - begin + kBatch - 1) / kBatch;
        std::vector<Batch> batch(3);
        for (int64_t k = 0; k < batches + 2; ++k) {
            if (k < batches) {
                const int64_t first = begin + k * kBatch;
                draw(first, static_cast<int>(std::min<int64_t>(kBatch, end - first)), batch[k % 3]);
                ask(part, batch[k % 3]);
            }
            if (k >= 1 && k <= batches) take(part, batch[(k - 1) % 3]);
            if (k >= 2) put(batch[(k - 2) % 3]);
        }
    });
}

// How many in-edges each part draws for each row of the matrix, in `counts`, (parts, nodes).
void count_edges(const Rmat& rmat, int64_t* counts) {
    const auto ask = [&](int part, const Batch& batch) {
        int64_t* mine = counts + part * rmat.num_nodes;
        for (int i = 0; i < batch.count; ++i) {
            __builtin_prefetch(mine + batch.column[i], 1);
            if (!rmat.directed) __builtin_prefetch(mine + batch.row[i], 1);
        }
    };
    const auto take = [&](int part, const Batch& batch) {
        int64_t* mine = counts + part * rmat.num_nodes;
        for (int i = 0; i < batch.count; ++i) {
            ++mine[batch.column[i]];
            if (!rmat.directed) ++mine[batch.row[i]];
        }
    };
    for_edges(rmat, ask, take, [](const Batch&) {});
}

// Puts each edge where its part's cursor of its row stands.
void fill_edges(const Rmat& rmat, int64_t* cursors, int32_t* indices) {
    const auto ask = [&](int part, const Batch& batch) {
        const int64_t* mine = cursors + part * rmat.num_nodes;
        for (int i = 0; i < batch.count; ++i) {
            __builtin_prefetch(mine + batch.column[i], 1);
            __builtin_prefetch(rmat.relabel + batch.row[i]);
            if (rmat.directed) continue;
            __builtin_prefetch(mine + batch.row[i], 1);
            __builtin_prefetch(rmat.relabel + batch.column[i]);
        }
    };
    const auto take = [&](int part, Batch& batch) {
        int64_t* mine = cursors + part * rmat.num_nodes;
        batch.size = 0;
        const auto add = [&](uint32_t from, uint32_t to) {
            const int64_t place = mine[to]++;
            __builtin_prefetch(indices + place, 1);
            batch.place[batch.size] = place;
            batch.source[batch.size++] = rmat.relabel[from];
        };
        for (int i = 0; i < batch.count; ++i) {
            add(batch.row[i], batch.column[i]);
            if (!rmat.directed) add(batch.column[i], batch.row[i]);
        }
    };
    const auto put = [&](const Batch& batch) {
        for (int i = 0; i < batch.size; ++i) indices[batch.place[i]] = batch.source[i];
    };
    for_edges(rmat, ask, take, put);
}

// Runs work(node, begin, end) for each row of a CSC; threads share them.
template <class Work>
void for_rows(const Rmat& rmat, const int64_t* indptr, const Work& work) {
    const int parts = parts_for(indptr[rmat.num_nodes], kDrawsPerThread, rmat.num_threads);
    run_rows(indptr, rmat.num_nodes, parts, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) work(v, indptr[v], indptr[v + 1]);
    });
}

// The hash of an edge decides which stay where there are too many.
struct Priority {
    uint64_t key, nodes;
    bool directed;

    explicit Priority(const Rmat& rmat)
        : key(fold(rmat.key, -1)), nodes(rmat.num_nodes), directed(rmat.directed) {}

    uint64_t operator()(uint64_t source, uint64_t target) const {
        if (!directed && source > target) std::swap(source, target);
        return fold(key, source * nodes + target);
    }
};

// The largest of the hashes that stay, where `excess` of `found` edges have to go.
uint64_t last_to_stay(const Rmat& rmat, const int64_t* indptr, const int64_t* lengths, const int32_t* indices,
                      int64_t found, int64_t excess) {
    const Priority priority(rmat);
    const int parts = parts_for(indptr[rmat.num_nodes], kDrawsPerThread, rmat.num_threads);
    // Hashes are uniform, so that the largest are above a bound that is easily guessed; a wrong guess is made
    // again.
    for (double share = 1.05 * (static_cast<double>(excess) + 1000) / static_cast<double>(found);; share *= 2) {
        const uint64_t bound = share >= 1 ? 0 : static_cast<uint64_t>((1 - share) * 0x1p64);
        std::vector<uint64_t> largest;
        std::mutex mutex;
        run_rows(indptr, rmat.num_nodes, parts, [&](int64_t begin, int64_t end) {
            std::vector<uint64_t> mine;
            for (int64_t v = begin; v < end; ++v)
                for (int64_t e = indptr[v]; e < indptr[v] + lengths[v]; ++e) {
                    if (!rmat.directed && indices[e] > v) break;  // seen from the other end
                    const uint64_t hash = priority(indices[e], v);
                    if (hash >= bound) mine.push_back(hash);
                }
            std::lock_guard lock(mutex);
            largest.insert(largest.end(), mine.begin(), mine.end());
        });
        if (static_cast<int64_t>(largest.size()) <= excess && bound > 0) continue;
        auto last = largest.begin() + excess;
        std::nth_element(largest.begin(), last, largest.end(), std::greater<>());
        return *last;
    }
}

}  // namespace

RmatGraph draw_rmat(const Rmat& rmat) {
    const int64_t nodes = rmat.num_nodes;
    RmatGraph graph{Buffer<int64_t>(nodes + 1), {}, 0};
    int64_t* indptr = graph.indptr.data();
    const int parts = num_parts(rmat);
    Buffer<int64_t> counts(parts * nodes);
    wish_huge(counts.data(), parts * nodes * sizeof(int64_t));
    std::memset(counts.data(), 0, parts * nodes * sizeof(int64_t));
    count_edges(rmat, counts.data());

    // From lengths of rows to where they begin, and where each part's share of them does.
    for (int64_t r = 0; r < nodes; ++r) {
        int64_t& length = indptr[rmat.relabel[r] + 1] = 0;
        for (int part = 0; part < parts; ++part) length += counts[part * nodes + r];
    }
    indptr[0] = 0;
    for (int64_t v = 0; v < nodes; ++v) indptr[v + 1] += indptr[v];
    for (int64_t r = 0; r < nodes; ++r) {
        int64_t place = indptr[rmat.relabel[r]];
        for (int part = 0; part < parts; ++part) {
            const int64_t length = counts[part * nodes + r];
            counts[part * nodes + r] = place;
            place += length;
        }
    }
    graph.indices.resize(indptr[nodes]);
    int32_t* indices = graph.indices.data();
    wish_huge(indices, indptr[nodes] * sizeof(int32_t));
    fill_edges(rmat, counts.data(), indices);

    int64_t* lengths = counts.data();
    for_rows(rmat, indptr, [&](int64_t v, int64_t begin, int64_t end) {
        std::sort(indices + begin, indices + end);
        lengths[v] = std::unique(indices + begin, indices + end) - (indices + begin);
    });
    for (int64_t v = 0; v < nodes; ++v) graph.found += lengths[v];
    if (!rmat.directed) graph.found /= 2;

    if (graph.found > rmat.most) {
        const uint64_t last =
            last_to_stay(rmat, indptr, lengths, indices, graph.found, graph.found - rmat.most);
        const Priority priority(rmat);
        for_rows(rmat, indptr, [&](int64_t v, int64_t begin, int64_t) {
            const auto goes = [&](int32_t source) { return priority(source, v) > last; };
            int32_t* row = indices + begin;
            lengths[v] = std::remove_if(row, row + lengths[v], goes) - row;
        });
    }

    // The gaps close.
    int64_t size = 0;
    for (int64_t v = 0; v < nodes; ++v) {
        std::memmove(indices + size, indices + indptr[v], lengths[v] * sizeof(int32_t));
        indptr[v] = size;
        size += lengths[v];
    }
    indptr[nodes] = size;
    graph.indices.resize(size);
    return graph;
}

}  // namespace gnnscale
