// Rows that several processes read and write, of which any may be killed anywhere.
//
// Each row has a version (a seqlock): the low bit says that it is being written, the next six by which slot
// of the journal, the rest counts writes. A reader copies the row and takes it if the version was quiet and
// is the same after. A writer owns a slot while it writes some rows. It puts the new row there first, then
// locks the version, which names the slot, copies the row, and unlocks. So whoever finds a row locked for
// long looks whether the slot's owner still lives, and if not takes the slot over and ends the write. Nobody
// waits for the dead, and a row is either old or new.
//
// An owner is a process: its id and when it started, as ids are used again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rows.h"

namespace gnnscale {

constexpr int kSlots = 64;

// Bytes of a table's journal.
int64_t journal_bytes(int64_t row_bytes);

// Reads a row, and the step at which it was written (0 where that is not kept).
int32_t read_shared_row(const RowTable& table, int64_t row, float* out);

// A slot of the journal, owned for as long as this lives.
class Slot {
  public:
    explicit Slot(const RowTable& table);
    ~Slot();
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    void write(int64_t row, const float* values, int32_t step);

  private:
    const RowTable& table_;
    int number_;
};

// Ends the writes of processes that are dead; gives the number of rows repaired.
int64_t recover(const RowTable& table);

}  // namespace gnnscale
