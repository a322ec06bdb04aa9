#include "journal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

namespace gnnscale {
namespace {

constexpr int64_t kLine = 64;
constexpr uint32_t kLocked = 1;
constexpr int kNumberShift = 1, kCountShift = 7;
static_assert(kSlots == 1 << (kCountShift - kNumberShift));
constexpr auto kSuspicion = std::chrono::milliseconds(20);

struct Entry {
    uint64_t owner;  // 0: nobody
    int64_t row;
    float scale;
    int32_t written;
    std::byte unused[kLine - 24];
    std::byte values[];
};
static_assert(sizeof(Entry) == kLine);

int64_t entry_bytes(int64_t row_bytes) { return kLine + (row_bytes + kLine - 1) / kLine * kLine + kLine; }

Entry& entry(const RowTable& table, int number) {
    return *reinterpret_cast<Entry*>(table.journal + number * entry_bytes(table.row_bytes()));
}

template <class T>
T load(const T* from, int order = __ATOMIC_RELAXED) {
    T value;
    __atomic_load(from, &value, order);
    return value;
}

template <class T>
void store(T* to, T value, int order = __ATOMIC_RELAXED) {
    __atomic_store(to, &value, order);
}

template <class T>
bool exchange(T* at, T from, T to) {
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

uint32_t locked_by(int number, uint32_t quiet) {
    return quiet | static_cast<uint32_t>(number) << kNumberShift | kLocked;
}
uint32_t unlocked(uint32_t locked) { return ((locked >> kCountShift) + 1) << kCountShift; }
int slot_of(uint32_t locked) { return (locked >> kNumberShift) % kSlots; }

// A process: its id, and a hash of when it started. 0 if there is no such process, or what is left of it runs
// nothing. `guess` is given where the system does not tell.
uint64_t process(pid_t pid, uint64_t guess) {
    char path[32], text[512];
    std::snprintf(path, sizeof(path), "/proc/%d/stat", static_cast<int>(pid));
    std::FILE* file = std::fopen(path, "re");
    if (file == nullptr) return kill(pid, 0) != 0 && errno == ESRCH ? 0 : guess;
    const size_t size = std::fread(text, 1, sizeof(text) - 1, file);
    std::fclose(file);
    text[size] = 0;
    const char* fields = std::strrchr(text, ')');  // the name before may hold anything
    char state;
    long threads;
    unsigned long long start;
    if (fields == nullptr ||
        std::sscanf(fields,
                    ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                    "%ld %*s %llu",
                    &state, &threads, &start) != 3)
        return size ? guess : 0;
    if ((state == 'Z' || state == 'X') && threads <= 1) return 0;
    return static_cast<uint64_t>(pid) << 32 | static_cast<uint32_t>(start * 0x9E3779B97F4A7C15u >> 32);
}

bool is_dead(uint64_t owner) { return process(static_cast<pid_t>(owner >> 32), owner) != owner; }

uint64_t this_process() {
    static std::atomic<uint64_t> known{0};
    // A child is another process.
    [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] { known = 0; });
    if (known == 0) {
        const uint64_t guess = static_cast<uint64_t>(getpid()) << 32, found = process(getpid(), guess);
        known = found ? found : guess;
    }
    return known;
}

// Copies between a row, of which others may see every word at any time, and memory of our own.
template <class Word>
void words_out(const std::byte* from, std::byte* to, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += sizeof(Word)) {
        const Word word = load(reinterpret_cast<const Word*>(from + i));
        std::memcpy(to + i, &word, sizeof(Word));
    }
}

template <class Word>
void words_in(const std::byte* from, std::byte* to, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += sizeof(Word)) {
        Word word;
        std::memcpy(&word, from + i, sizeof(Word));
        store(reinterpret_cast<Word*>(to + i), word);
    }
}

using Copy = void (*)(const std::byte*, std::byte*, int64_t);

// By the longest word that fits into all rows.
template <template <class> class Of>
Copy by_words(const RowTable& table) {
    const uint64_t bits = reinterpret_cast<uintptr_t>(table.rows) | static_cast<uint64_t>(table.row_bytes());
    return bits % 8 == 0   ? Of<uint64_t>::copy
           : bits % 4 == 0 ? Of<uint32_t>::copy
           : bits % 2 == 0 ? Of<uint16_t>::copy
                           : Of<uint8_t>::copy;
}
template <class Word>
struct Out {
    static constexpr Copy copy = words_out<Word>;
};
template <class Word>
struct In {
    static constexpr Copy copy = words_in<Word>;
};

// With the row locked by this entry: the entry becomes the row.
void finish(const RowTable& table, const Entry& entry, uint32_t locked) {
    const int64_t row = entry.row, bytes = table.row_bytes();
    std::atomic_thread_fence(std::memory_order_release);  // whoever sees a new word sees the lock
    by_words<In>(table)(entry.values, table.rows + row * bytes, bytes);
    if (table.scales) store(table.scales + row, entry.scale);
    if (table.written) store(table.written + row, entry.written);
    store(table.versions + row, unlocked(locked), __ATOMIC_RELEASE);
}

// Ends what a dead owner began and frees its slot, unless somebody else is about to. Gives whether a row was
// unlocked.
bool bury(const RowTable& table, int number, uint64_t owner) {
    Entry& left = entry(table, number);
    if (!exchange(&left.owner, owner, this_process())) return false;
    bool repaired = false;
    const int64_t row = load(&left.row, __ATOMIC_ACQUIRE);
    if (row >= 0 && row < table.num_rows) {
        const uint32_t version = load(table.versions + row, __ATOMIC_ACQUIRE);
        repaired = (version & kLocked) && slot_of(version) == number;
        if (repaired) finish(table, left, version);
    }
    store(&left.owner, uint64_t{0}, __ATOMIC_RELEASE);
    return repaired;
}

// A row has been locked for long.
void suspect(const RowTable& table, int64_t row, uint32_t locked) {
    const int number = slot_of(locked);
    const Entry& left = entry(table, number);
    const uint64_t owner = load(&left.owner, __ATOMIC_ACQUIRE);
    if (owner != 0 && load(&left.row, __ATOMIC_ACQUIRE) == row) {
        if (is_dead(owner)) bury(table, number, owner);
    } else if (load(table.versions + row, __ATOMIC_ACQUIRE) == locked) {
        // No writer leaves that behind, but a machine that stopped before all of a file had reached the disk.
        exchange(table.versions + row, locked, unlocked(locked));
    }
}

// Patience that knows how long it has lasted: spins, gives way, then sleeps.
class Patience {
  public:
    // Waits a little; true each time that another 20 ms have gone.
    bool wait() {
        if (++turns_ < 64) return false;
        if (turns_ < 128) {
            sched_yield();
        } else {
            const timespec pause{0, 50'000};
            nanosleep(&pause, nullptr);
        }
        const auto now = std::chrono::steady_clock::now();
        if (now - since_ < kSuspicion) return false;
        since_ = now;
        return true;
    }

  private:
    int turns_ = 0;
    std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

// The version of a row, once nobody writes it.
uint32_t quiet_version(const RowTable& table, int64_t row) {
    uint32_t version = load(table.versions + row, __ATOMIC_ACQUIRE);
    if (!(version & kLocked)) return version;
    Patience patience;
    while (version & kLocked) {
        if (patience.wait()) suspect(table, row, version);
        version = load(table.versions + row, __ATOMIC_ACQUIRE);
    }
    return version;
}

}  // namespace

int64_t journal_bytes(int64_t row_bytes) { return kSlots * entry_bytes(row_bytes); }

int32_t read_shared_row(const RowTable& table, int64_t row, float* out) {
    constexpr int64_t kColumns = 256;
    alignas(kLine) std::byte some[kColumns * sizeof(float)];
    const Copy copy = by_words<Out>(table);
    const int64_t item = item_bytes(table.type);
    const std::byte* from = table.rows + row * table.row_bytes();
    while (true) {
        const uint32_t version = quiet_version(table, row);
        const float scale = table.scales ? load(table.scales + row) : 1;
        const int32_t written = table.written ? load(table.written + row) : 0;
        if (table.type == RowType::kFloat32) {
            copy(from, reinterpret_cast<std::byte*>(out), table.row_bytes());
        } else {
            for (int64_t begin = 0; begin < table.width; begin += kColumns) {
                const int64_t columns = std::min(kColumns, table.width - begin);
                copy(from + begin * item, some, columns * item);
                decode(table.type, some, columns, scale, out + begin);
            }
        }
        std::atomic_thread_fence(std::memory_order_acquire);
        if (load(table.versions + row) == version) return written;
    }
}

Slot::Slot(const RowTable& table) : table_(table) {
    const uint64_t me = this_process();
    // Processes begin at different slots, so that they seldom meet.
    const int first = static_cast<int>((me >> 32) * 8 % kSlots);
    Patience patience;
    while (true) {
        for (int i = 0; i < kSlots; ++i) {
            number_ = (first + i) % kSlots;
            if (load(&entry(table, number_).owner) == 0 &&
                exchange(&entry(table, number_).owner, uint64_t{0}, me))
                return;
        }
        if (patience.wait()) recover(table);
    }
}

Slot::~Slot() { store(&entry(table_, number_).owner, uint64_t{0}, __ATOMIC_RELEASE); }

void Slot::write(int64_t row, const float* values, int32_t step) {
    Entry& mine = entry(table_, number_);
    mine.scale = row_scale(table_.type, values, table_.width);
    mine.written = step;
    encode(table_.type, values, table_.width, mine.scale, mine.values);
    store(&mine.row, row, __ATOMIC_RELEASE);
    uint32_t version;
    do version = quiet_version(table_, row);
    while (!exchange(table_.versions + row, version, locked_by(number_, version)));
    finish(table_, mine, locked_by(number_, version));
}

int64_t recover(const RowTable& table) {
    int64_t repaired = 0;
    for (int number = 0; table.journal && number < kSlots; ++number) {
        const uint64_t owner = load(&entry(table, number).owner, __ATOMIC_ACQUIRE);
        if (owner != 0 && is_dead(owner)) repaired += bury(table, number, owner);
    }
    return repaired;
}

}  // namespace gnnscale
