#include "random.h"
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

struct MarkBelow {
    InEdges edges;
    uint64_t state;
    const int64_t* limits;
    uint8_t* keep;

    DEVICE void operator()(int64_t e) const {
        const int32_t row = edges.rows[e];
        const auto source = static_cast<uint64_t>(edges.indices[e + edges.shift[row]]);
        keep[e] = static_cast<int64_t>(fold(state, source) >> 12) < limits[row];
    }
};

struct MarkMembers {
    InEdges edges;
    const int32_t* places;
    uint8_t* keep;

    DEVICE void operator()(int64_t e) const {
        keep[e] = places[edges.indices[e + edges.shift[edges.rows[e]]]] != kNowhere;
    }
};

template <class Word>
struct Take {
    const Word* values;
    const int64_t* index;
    Word* out;

    DEVICE void operator()(int64_t i) const { out[i] = read(values + index[i]); }
};

}  // namespace

void mark_below(const InEdges& edges, uint64_t state, const int64_t* limits, uint8_t* keep, Stream stream) {
    for_each(MarkBelow{edges, state, limits, keep}, edges.count, stream);
}

void mark_members(const InEdges& edges, const int32_t* places, uint8_t* keep, Stream stream) {
    for_each(MarkMembers{edges, places, keep}, edges.count, stream);
}

template <class Word>
void take(const Word* values, const int64_t* index, int64_t count, Word* out, Stream stream) {
    for_each(Take<Word>{values, index, out}, count, stream);
}

template void take(const int32_t*, const int64_t*, int64_t, int32_t*, Stream);
template void take(const int64_t*, const int64_t*, int64_t, int64_t*, Stream);

}  // namespace gnnscale::gpu
