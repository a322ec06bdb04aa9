// The one way in which sums, extremes and softmaxes over the edges of rows are shared out among warps.
//
// A warp has a tile of a row: as many columns as its lanes read at once. Its lanes form groups, each of which takes
// another edge; `lane` below is a lane's number in its group. Of a row with more than kPiece edges it does those up to
// the next multiple of kPiece, and other warps, run before, one of the pieces from there on. So a warp has at most
// kPiece edges however skewed the degrees are, the pieces need no list, and sums always have the same order.
//
// A kind of work says what an edge does:
//   State       what a lane knows of some edges, made of words of four bytes; State() of none
//   Row         what a lane keeps of its row meanwhile
//   Loaded      what a lane reads for an edge
//   shape       see below
//   has_own(row)                           whether the row has an own edge, kOwn
//   open(row, tile, lane)                  gives the Row
//   load(Row, edge, tile, lane)            gives the Loaded; that of several edges is asked for at once
//   add(State&, Row, Loaded, tile, lane)   the edge; where kProbes, Loaded::probe is now the sum over shape.probed lanes
//   merge(State&, State)                   two sets of edges
//   finish(State, Row, row, tile, lane)    writes the result
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
    using Loaded = typename Work::Loaded;
    const int group = work.shape.group, groups = kLanes / group;
    if constexpr (Work::kProbes) {
        const int64_t end = stop + own;
        for (int64_t base = first; base < end; base += groups) {
            PerLane<Loaded> loaded;
            PerLane<float> probes;
            each_lane([&](int lane) {
                const int64_t edge = base + lane / group;
                loaded[lane] = edge < end ? work.load(rows[lane], edge < stop ? edge : kOwn, tile, lane % group)
                                          : Loaded();
                probes[lane] = loaded[lane].probe;
            });
            add_up(probes, work.shape.probed);
            each_lane([&](int lane) {
                loaded[lane].probe = probes[lane];
                if (base + lane / group < end)
                    work.add(states[lane], rows[lane], loaded[lane], tile, lane % group);
            });
        }
    } else {
        constexpr int kAtOnce = 4;
        each_lane([&](int lane) {
            for (int64_t edge = first + lane / group; edge < stop; edge += kAtOnce * groups) {
                Loaded loaded[kAtOnce];
#pragma unroll
                for (int i = 0; i < kAtOnce; ++i) {
                    const int64_t next = edge + i * groups;
                    loaded[i] = work.load(rows[lane], next < stop ? next : edge, tile, lane % group);
                }
#pragma unroll
                for (int i = 0; i < kAtOnce; ++i)
                    if (edge + i * groups < stop)
                        work.add(states[lane], rows[lane], loaded[i], tile, lane % group);
            }
            if (own && lane / group == 0)
                work.add(states[lane], rows[lane], work.load(rows[lane], kOwn, tile, lane % group), tile,
                         lane % group);
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

// As many numbers as a lane reads at once: 16 bytes of the wider type.
template <class A, class B = A>
constexpr int kPack = 16 / (sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));

// Whether rows of that width, beginning there, can be read `pack` numbers at a time.
template <class T>
bool fits_packs(const T* rows, int64_t width, int pack) {
    return width % pack == 0 && reinterpret_cast<uintptr_t>(rows) % (pack * sizeof(T)) == 0;
}

}  // namespace gnnscale::gpu
