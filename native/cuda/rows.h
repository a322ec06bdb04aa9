// The one way in which sums, extremes and softmaxes over the edges of rows are shared out among warps.
//
// A warp has a tile of a row: as many columns as its lanes read at once. Its lanes form groups, each of which takes
// another edge; `lane` below is a lane's number in its group. Of a row with more than kPiece edges it does those up to
// the next multiple of kPiece, and other warps, run before, one of the pieces from there on. So a warp has at most
// kPiece edges however skewed the degrees are, the pieces need no list, and sums always have the same order.
//
// A kind of work says what an edge does:
//   State           what a lane knows of some edges, made of words of four bytes; State() of none
//   Row             what a lane keeps of its row meanwhile
//   shape           see below
//   open(row, tile, lane)                              gives the Row
//   probe(Row, edge, tile, lane)                       where kProbes: a number, to be added up over shape.probed lanes
//   add(State&, Row, edge, tile, lane, sum)            the edge, kOwn for the row's own; `sum` is that of the probes
//   merge(State&, State)                               two sets of edges
//   finish(State, Row, row, tile, lane)                writes the result
//   has_own(row)                                       whether the row has an own edge
#pragma once

#include "launch.h"

namespace gnnscale::gpu {

constexpr int64_t kPiece = 512;
constexpr int64_t kOwn = -1;

struct Shape {
    int group;      // lanes that take an edge: a power of two
    int64_t tiles;  // of a row
    int probed;     // lanes whose probes are added up: a power of two, at most `group`
};

struct Pointers {
    Integers indptr;
    int64_t num_rows;
    int64_t num_edges;

    // The row of an edge.
    DEVICE int64_t row_of(int64_t edge) const {
        int64_t low = 0, high = num_rows;  // indptr[low] <= edge < indptr[high]
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            if (indptr[middle] <= edge)
                low = middle;
            else
                high = middle;
        }
        return low;
    }
};

DEVICE int64_t rounded_up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }

// Edges [first, stop) of a row, then its own if `own`, into the lanes' states.
template <class Work>
DEVICE void add_edges(const Work& work, PerLane<typename Work::Row>& rows, int64_t tile, int64_t first, int64_t stop,
                      bool own, PerLane<typename Work::State>& states) {
    const int group = work.shape.group, groups = kLanes / group;
    const int64_t end = stop + own;
    if constexpr (Work::kProbes) {
        for (int64_t base = first; base < end; base += groups) {
            PerLane<float> sums;
            const auto edge_of = [&](int lane) {
                const int64_t e = base + lane / group;
                return e < stop ? e : kOwn;
            };
            each_lane([&](int lane) {
                const bool has = base + lane / group < end;
                sums[lane] = has ? work.probe(rows[lane], edge_of(lane), tile, lane % group) : 0.0f;
            });
            add_up(sums, work.shape.probed);
            each_lane([&](int lane) {
                if (base + lane / group < end)
                    work.add(states[lane], rows[lane], edge_of(lane), tile, lane % group, sums[lane]);
            });
        }
    } else {
        each_lane([&](int lane) {
#pragma unroll 4
            for (int64_t e = first + lane / group; e < stop; e += groups)
                work.add(states[lane], rows[lane], e, tile, lane % group, 0.0f);
            if (own && lane / group == 0) work.add(states[lane], rows[lane], kOwn, tile, lane % group, 0.0f);
        });
    }
}

// All groups' edges, known to every group.
template <class Work>
DEVICE void merge_groups(const Work& work, PerLane<typename Work::State>& states) {
    for (int mask = work.shape.group; mask < kLanes; mask *= 2) {
        PerLane<typename Work::State> others = exchanged(states, mask);
        each_lane([&](int lane) { work.merge(states[lane], others[lane]); });
    }
}

// The states of long rows' pieces, (pieces, tiles, group): piece p is edges [p, p + 1) kPiece.
template <class Work>
struct Pieces {
    Work work;
    Pointers rows;
    typename Work::State* partial;

    DEVICE void operator()(int64_t warp) const {
        const int64_t piece = warp / work.shape.tiles, tile = warp % work.shape.tiles;
        const int64_t first = piece * kPiece, row = rows.row_of(first);
        const int64_t stop = rows.indptr[row + 1];
        if (stop - rows.indptr[row] <= kPiece) return;
        PerLane<typename Work::State> states;
        PerLane<typename Work::Row> opened;
        each_lane([&](int lane) {
            states[lane] = typename Work::State();
            opened[lane] = work.open(row, tile, lane % work.shape.group);
        });
        add_edges(work, opened, tile, first, stop < first + kPiece ? stop : first + kPiece, false, states);
        merge_groups(work, states);
        each_lane([&](int lane) {
            if (lane < work.shape.group) partial[warp * work.shape.group + lane] = states[lane];
        });
    }
};

template <class Work>
struct Rows {
    Work work;
    Pointers rows;
    const typename Work::State* partial;

    DEVICE void operator()(int64_t warp) const {
        const int group = work.shape.group;
        const int64_t row = warp / work.shape.tiles, tile = warp % work.shape.tiles;
        const int64_t first = rows.indptr[row], stop = rows.indptr[row + 1];
        const bool is_long = stop - first > kPiece;
        const int64_t own_part = is_long ? rounded_up(first, kPiece) : stop;
        PerLane<typename Work::State> states;
        PerLane<typename Work::Row> opened;
        each_lane([&](int lane) {
            states[lane] = typename Work::State();
            opened[lane] = work.open(row, tile, lane % group);
        });
        add_edges(work, opened, tile, first, own_part, work.has_own(row), states);
        if (is_long)
            each_lane([&](int lane) {
                for (int64_t piece = own_part / kPiece + lane / group; piece * kPiece < stop; piece += kLanes / group)
                    work.merge(states[lane], partial[(piece * work.shape.tiles + tile) * group + lane % group]);
            });
        merge_groups(work, states);
        each_lane([&](int lane) {
            if (lane < group) work.finish(states[lane], opened[lane], row, tile, lane);
        });
    }
};

// Memory on the device that lives as long as the caller's stream needs it.
class Allocator {
  public:
    virtual ~Allocator() = default;
    virtual void* take(int64_t bytes) = 0;
};

template <class Work>
void reduce_rows(const Work& work, const Pointers& rows, Allocator& memory, Stream stream) {
    using State = typename Work::State;
    State* partial = nullptr;
    if (rows.num_edges > kPiece) {
        const int64_t pieces = (rows.num_edges + kPiece - 1) / kPiece;
        partial = static_cast<State*>(memory.take(pieces * work.shape.tiles * work.shape.group * sizeof(State)));
        launch(Pieces<Work>{work, rows, partial}, pieces * work.shape.tiles, stream);
    }
    launch(Rows<Work>{work, rows, partial}, rows.num_rows * work.shape.tiles, stream);
}

// The lanes for `width` numbers, `pack` a lane: a power of two, at most a warp.
inline int lanes_for(int64_t width, int pack) {
    int lanes = 1;
    while (lanes < kLanes && static_cast<int64_t>(lanes) * pack < width) lanes *= 2;
    return lanes;
}

// For rows whose columns are all alike.
inline Shape shape_for(int64_t width, int pack) {
    const int lanes = lanes_for(width, pack);
    const int64_t tile = static_cast<int64_t>(lanes) * pack;
    return {lanes, (width + tile - 1) / tile, 1};
}

// Whether rows of that width, beginning there, can be read `Pack` numbers at a time.
template <class T>
bool fits_packs(const T* rows, int64_t width, int pack) {
    return width % pack == 0 && reinterpret_cast<uintptr_t>(rows) % (pack * sizeof(T)) == 0;
}

}  // namespace gnnscale::gpu
