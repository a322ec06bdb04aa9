// A table of rows, stored as float32, float16, bfloat16 or int8, read and written as float32.
//
// - Rows are contiguous and lie behind one another. With int8 there is a scale for each row (encoding.h).
// - `written` holds the step at which each row was written.
// - With `versions` and a `journal`, several processes may read and write the table at once: no row is ever
//   seen half written, also if a writer is killed (journal.h). Without them, who uses the table takes turns.
// A table is a view: its memory belongs to the caller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "encoding.h"

namespace gnnscale {

struct RowTable {
    std::byte* rows;
    int64_t num_rows;
    int64_t width;
    RowType type;
    float* scales;       // int8 alone
    int32_t* written;    // or null
    uint32_t* versions;  // null in a table of one process
    std::byte* journal;  // null where versions is

    int64_t row_bytes() const { return width * item_bytes(type); }
    // Bytes that move with a row.
    int64_t bytes(int64_t count) const { return count * (row_bytes() + (scales ? sizeof(float) : 0)); }
};

// How old rows were when they were read: steps since they had been written, 0 where that is not yet.
struct Ages {
    int64_t sum = 0;
    int64_t largest = 0;
    std::array<int64_t, 32> histogram{};  // bucket 0: age 0; bucket k: ages 2^(k-1) to 2^k - 1

    void add(int64_t age);
    void add(const Ages& other);
};

// The threads of one operation share it in parts. Ids have to be in [0, num_rows).

// out[i] = row ids[i], for one range of i a part.
void read_rows(const RowTable& table, const int64_t* ids, int64_t count, float* out, int64_t step, int part,
               int parts, Ages& ages);

// Row ids[i] = rows[i], for one set of ids a part, so that of an id that is repeated the last row stays.
void write_rows(const RowTable& table, const int64_t* ids, int64_t count, const float* rows, int32_t step,
                int part, int parts);

}  // namespace gnnscale
