// Rows of a table (native/include/rows.h), in the device's memory or in pinned memory of the host, which a kernel reads
// and writes as its own: a warp's lanes ask for a row in one piece, so that it crosses the bus in large packets.
#include "stored.h"
#include "table.h"

namespace gnnscale::gpu {
namespace {

template <class Stored>
DEVICE float decoded(Stored stored, float) {
    return widen(stored);
}
DEVICE float decoded(int8_t stored, float scale) { return static_cast<float>(stored) * scale; }

template <class Stored>
DEVICE void encode_number(float value, float, Stored& stored) {
    narrow(value, stored);
}
DEVICE void encode_number(float value, float scale, int8_t& stored) { stored = quantised(value, scale); }

template <class Stored, int N>
struct ReadRows {
    static constexpr int kAtOnce = 4;  // rows a group of lanes asks for: what is far away takes long

    int group;
    Table table;
    Hot hot;
    const int64_t* ids;
    int64_t count;
    float* out;
    int32_t* steps;

    DEVICE void operator()(int64_t warp) const {
        const int64_t groups = kLanes / group, first = warp * groups * kAtOnce;
        PerLane<float> hits;
        each_lane([&](int lane) {
            const Stored* row[kAtOnce];
            float scale[kAtOnce];
            const int64_t begin = first + lane / group;
            const bool speaks = lane % group == 0;
            hits[lane] = 0;
#pragma unroll
            for (int i = 0; i < kAtOnce; ++i) {
                const int64_t at = begin + i * groups;
                row[i] = nullptr;
                if (at >= count) continue;
                const int64_t id = read(ids + at);
                const int32_t slot = hot.slots ? read(hot.slots + id) : -1;
                const bool is_hot = slot >= 0;
                const int64_t place = is_hot ? slot : id;
                row[i] = reinterpret_cast<const Stored*>(is_hot ? hot.rows : table.rows) + place * table.width;
                scale[i] = table.scales ? read((is_hot ? hot.scales : table.scales) + place) : 1.0f;
                if (!speaks) continue;
                if (is_hot) hits[lane] += 1;
                if (hot.accesses) add_to(hot.accesses + id, 1);
                if (steps) steps[at] = read(table.written + id);
            }
            for (int64_t c = lane % group * N; c < table.width; c += group * N) {
                Pack<Stored, N> stored[kAtOnce];
#pragma unroll
                for (int i = 0; i < kAtOnce; ++i)
                    if (row[i]) stored[i] = read_pack<N>(row[i] + c);
#pragma unroll
                for (int i = 0; i < kAtOnce; ++i) {
                    if (!row[i]) continue;
                    Pack<float, N> numbers;
#pragma unroll
                    for (int k = 0; k < N; ++k) numbers.values[k] = decoded(stored[i].values[k], scale[i]);
                    write_pack(numbers, out + (begin + i * groups) * table.width + c);
                }
            }
        });
        if (!hot.slots) return;
        add_up(hits, kLanes);
        each_lane([&](int lane) {
            if (lane == 0 && hits[lane] > 0) add_to(hot.hits, static_cast<int64_t>(hits[lane]));
        });
    }
};

template <class Stored, int N>
struct EncodeRows {
    int group;
    const float* rows;
    int64_t count, width;
    Stored* stored;
    float* scales;

    DEVICE void operator()(int64_t warp) const {
        const int64_t first = warp * (kLanes / group);
        PerLane<uint32_t> largest;
        if (scales) {
            each_lane([&](int lane) {
                largest[lane] = 0;
                const int64_t row = first + lane / group;
                if (row >= count) return;
                for (int64_t c = lane % group; c < width; c += group) {
                    const uint32_t bits = read(reinterpret_cast<const uint32_t*>(rows + row * width + c)) & 0x7FFFFFFF;
                    if (bits > largest[lane]) largest[lane] = bits;
                }
            });
            for (int mask = group / 2; mask > 0; mask /= 2) {
                PerLane<uint32_t> others = exchanged(largest, mask);
                each_lane([&](int lane) {
                    if (others[lane] > largest[lane]) largest[lane] = others[lane];
                });
            }
        }
        each_lane([&](int lane) {
            const int64_t row = first + lane / group;
            if (row >= count) return;
            const float scale = scales ? scale_of(largest[lane]) : 1.0f;
            if (scales && lane % group == 0) scales[row] = scale;
            for (int64_t c = lane % group * N; c < width; c += group * N) {
                const Pack<float, N> numbers = read_pack<N>(rows + row * width + c);
                Pack<Stored, N> pack;
#pragma unroll
                for (int k = 0; k < N; ++k) encode_number(numbers.values[k], scale, pack.values[k]);
                write_pack(pack, stored + row * width + c);
            }
        });
    }
};

// Where an id is repeated, all write the row that `last` names.
template <int Bytes>
struct WriteRows {
    using Unit = Pack<uint8_t, Bytes>;

    int group;
    Table table;
    int64_t row_bytes;
    const int64_t *ids, *last;
    int64_t count;
    const uint8_t* stored;
    const float* scales;
    int32_t step;

    DEVICE void operator()(int64_t warp) const {
        each_lane([&](int lane) {
            const int64_t at = warp * (kLanes / group) + lane / group;
            if (at >= count) return;
            const int64_t row = read(ids + at), from = read(last + at);
            for (int64_t b = lane % group * Bytes; b < row_bytes; b += group * Bytes)
                write_pack(read_pack<Bytes>(stored + from * row_bytes + b), table.rows + row * row_bytes + b);
            if (lane % group != 0) return;
            if (table.scales) table.scales[row] = read(scales + from);
            if (table.written) table.written[row] = step;
        });
    }
};

int64_t warps_for(int64_t count, int64_t rows_a_warp) { return (count + rows_a_warp - 1) / rows_a_warp; }

template <class Work>
void with_type(RowType type, const Work& work) {
    switch (type) {
        case RowType::kFloat32:
            return work(float());
        case RowType::kFloat16:
            return work(Float16());
        case RowType::kBFloat16:
            return work(BFloat16());
        case RowType::kInt8:
            return work(int8_t());
    }
}

}  // namespace

void read_rows(const Table& table, const Hot& hot, const int64_t* ids, int64_t count, float* out, int32_t* steps,
               Stream stream) {
    with_type(table.type, [&](auto example) {
        using Stored = decltype(example);
        const auto* rows = reinterpret_cast<const Stored*>(table.rows);
        const auto* copies = reinterpret_cast<const Stored*>(hot.rows);
        const auto with = [&](auto pack) {
            constexpr int N = decltype(pack)::value;
            using Work = ReadRows<Stored, N>;
            const Work work = {lanes_for(table.width, N), table, hot, ids, count, out, steps};
            launch(work, warps_for(count, kLanes / work.group * Work::kAtOnce), stream);
        };
        if (fits_packs(rows, table.width, 4) && fits_packs(copies, table.width, 4) && fits_packs(out, table.width, 4))
            with(std::integral_constant<int, 4>());
        else
            with(std::integral_constant<int, 1>());
    });
}

void encode_rows(const float* rows, int64_t count, int64_t width, RowType type, void* stored, float* scales,
                 Stream stream) {
    with_type(type, [&](auto example) {
        using Stored = decltype(example);
        auto* out = static_cast<Stored*>(stored);
        const auto with = [&](auto pack) {
            constexpr int N = decltype(pack)::value;
            const EncodeRows<Stored, N> work = {lanes_for(width, N), rows, count, width, out, scales};
            launch(work, warps_for(count, kLanes / work.group), stream);
        };
        if (fits_packs(rows, width, 4) && fits_packs(out, width, 4))
            with(std::integral_constant<int, 4>());
        else
            with(std::integral_constant<int, 1>());
    });
}

void write_rows(const Table& table, const int64_t* ids, const int64_t* last, int64_t count, const void* stored,
                const float* scales, int32_t step, Stream stream) {
    const int64_t row_bytes = table.width * item_bytes(table.type);
    const auto* from = static_cast<const uint8_t*>(stored);
    const auto with = [&](auto bytes) {
        constexpr int Bytes = decltype(bytes)::value;
        const WriteRows<Bytes> work = {lanes_for(row_bytes, Bytes), table, row_bytes, ids, last, count, from, scales,
                                       step};
        launch(work, warps_for(count, kLanes / work.group), stream);
    };
    if (fits_packs(from, row_bytes, 16) && fits_packs(table.rows, row_bytes, 16))
        with(std::integral_constant<int, 16>());
    else if (fits_packs(from, row_bytes, 4) && fits_packs(table.rows, row_bytes, 4))
        with(std::integral_constant<int, 4>());
    else
        with(std::integral_constant<int, 1>());
}

}  // namespace gnnscale::gpu
