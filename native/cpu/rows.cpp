#include "rows.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "journal.h"
#include "prefetch.h"
#include "stream.h"

namespace gnnscale {
namespace {

bool streams_to(const RowTable& table) {
    return table.row_bytes() % kLine == 0 && reinterpret_cast<uintptr_t>(table.rows) % kLine == 0 &&
           table.num_rows * table.row_bytes() > kCached;
}

void write_row(const RowTable& table, int64_t row, const float* values, int32_t step, bool streaming) {
    constexpr int64_t kColumns = 256;
    alignas(kLine) std::byte some[kColumns * sizeof(float)];
    const int64_t item = item_bytes(table.type);
    std::byte* to = table.rows + row * table.row_bytes();
    const float scale = row_scale(table.type, values, table.width);
    if (!streaming) {
        encode(table.type, values, table.width, scale, to);
    } else if (table.type == RowType::kFloat32) {
        stream(reinterpret_cast<const std::byte*>(values), table.row_bytes(), to);
    } else {
        for (int64_t begin = 0; begin < table.width; begin += kColumns) {
            const int64_t columns = std::min(kColumns, table.width - begin);
            encode(table.type, values + begin, columns, scale, some);
            stream(some, columns * item, to + begin * item);
        }
    }
    if (table.scales) table.scales[row] = scale;
    if (table.written) table.written[row] = step;
}

template <int Write>
[[gnu::always_inline]] inline void prefetch_row(const RowTable& table, int64_t row, int64_t bytes) {
    prefetch<Write>(table.rows + row * table.row_bytes(), bytes);
    if (table.scales) __builtin_prefetch(table.scales + row, Write, 2);
    if (table.written) __builtin_prefetch(table.written + row, Write, 2);
    if (table.versions) __builtin_prefetch(table.versions + row, Write, 2);
}

// Which of `parts` writes a row: blocks of 16 rows are dealt out by a hash.
int64_t part_of(int64_t row, int64_t parts) {
    return static_cast<int64_t>(static_cast<uint32_t>(row >> 4) * 0x9E3779B1u) * parts >> 32;
}

}  // namespace

void Ages::add(int64_t age) {
    age = std::max<int64_t>(age, 0);
    sum += age;
    largest = std::max(largest, age);
    ++histogram[age ? std::min<int64_t>(64 - __builtin_clzll(age), histogram.size() - 1) : 0];
}

void Ages::add(const Ages& other) {
    sum += other.sum;
    largest = std::max(largest, other.largest);
    for (size_t i = 0; i < histogram.size(); ++i) histogram[i] += other.histogram[i];
}

void read_rows(const RowTable& table, const int64_t* ids, int64_t count, float* out, int64_t step, int part,
               int parts, Ages& ages) {
    const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    const int64_t bytes = table.row_bytes(), ahead = rows_ahead(bytes);
    for (int64_t i = begin; i < end; ++i) {
        if (i + ahead < end) prefetch_row<0>(table, ids[i + ahead], bytes);
        const int64_t row = ids[i];
        float* to = out + i * table.width;
        int32_t written = 0;
        if (table.versions) {
            written = read_shared_row(table, row, to);
        } else {
            decode(table.type, table.rows + row * bytes, table.width, table.scales ? table.scales[row] : 1,
                   to);
            if (table.written) written = table.written[row];
        }
        if (table.written) ages.add(step - written);
    }
}

void write_rows(const RowTable& table, const int64_t* ids, int64_t count, const float* rows, int32_t step,
                int part, int parts) {
    constexpr int64_t kSome = 512;
    int64_t mine[kSome];  // positions in `ids`
    const bool streaming = streams_to(table);
    const int64_t bytes = table.row_bytes(), ahead = rows_ahead(bytes);
    std::optional<Slot> slot;
    if (table.versions) slot.emplace(table);
    for (int64_t begin = 0; begin < count; begin += kSome) {
        const int64_t end = std::min(begin + kSome, count);
        int64_t size = 0;
        for (int64_t i = begin; i < end; ++i) {
            mine[size] = i;
            size += parts == 1 || part_of(ids[i], parts) == part;
        }
        for (int64_t k = 0; k < size; ++k) {
            if (k + ahead < size) prefetch_row<1>(table, ids[mine[k + ahead]], streaming ? 0 : bytes);
            const int64_t row = ids[mine[k]];
            const float* values = rows + mine[k] * table.width;
            if (slot)
                slot->write(row, values, step);
            else
                write_row(table, row, values, step, streaming);
        }
    }
    if (streaming) stream_end();
}

}  // namespace gnnscale
