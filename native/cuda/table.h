// Tables of rows that a GPU reads and writes: in its memory, or in pinned memory of the host.
#pragma once

#include <cstdint>

#include "encoding.h"
#include "kernels.h"

namespace gnnscale::gpu {

struct Table {
    uint8_t* rows;
    int64_t width;
    RowType type;
    float* scales;     // int8 alone
    int32_t* written;  // or null
};

// Copies of a table's rows, in the device's memory, and counts of what is read.
struct Hot {
    const int32_t* slots;  // of each row of the table where its copy is, -1 if there is none; or null: there are none
    const uint8_t* rows;
    const float* scales;
    int64_t* hits;      // one number, to which the rows that are read from copies are added
    int32_t* accesses;  // or null; one number a row of the table, to which its reads are added
};

// out[i] = row ids[i], and steps[i] = when it was written, where `steps` is given.
void read_rows(const Table& table, const Hot& hot, const int64_t* ids, int64_t count, float* out, int32_t* steps,
               Stream stream);

// Rows as a table stores them; `scales` for int8.
void encode_rows(const float* rows, int64_t count, int64_t width, RowType type, void* stored, float* scales,
                 Stream stream);

// Row ids[i] = the stored row last[i], written at `step`; where ids are equal, `last` has to be.
void write_rows(const Table& table, const int64_t* ids, const int64_t* last, int64_t count, const void* stored,
                const float* scales, int32_t step, Stream stream);

}  // namespace gnnscale::gpu
