// Transfers and shared tables under stress, against a sequential model; `make sanitize` runs it, also under
// the compiler's sanitizers.
//
//     history_stress [operations] [seed]
//
// A row tells who wrote it and when: its columns spell a token in digits, many times over, so that a row put
// together from two is seen. The digits are such that each type stores them exactly.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "journal.h"
#include "random.h"
#include "transfers.h"

using namespace gnnscale;

namespace {

constexpr int64_t kRows = 4000, kWidth = 83;
constexpr int64_t kDigits = 6, kBase = 127;
constexpr RowType kTypes[] = {RowType::kFloat32, RowType::kFloat16, RowType::kBFloat16, RowType::kInt8};

#define CHECK(condition, ...)                                                \
    do {                                                                     \
        if (!(condition)) {                                                  \
            std::fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);             \
            std::fprintf(stderr, __VA_ARGS__);                               \
            std::fprintf(stderr, "; seed %llu\n", (unsigned long long)seed); \
            std::_Exit(1);                                                   \
        }                                                                    \
    } while (false)

uint64_t seed = 1;

struct Random {
    uint64_t key, count = 0;
    int64_t below(int64_t n) { return static_cast<int64_t>(fold(key, count++) % static_cast<uint64_t>(n)); }
};

// Who wrote a row, in which of his operations, and where in it; 0 is a row never written.
using Token = int64_t;
constexpr int64_t kWriters = 16, kPlaces = 8192;
Token token_of(int64_t writer, int64_t operation, int64_t place) {
    return (operation * kPlaces + place) * kWriters + writer;
}
int32_t operation_of(Token token) { return static_cast<int32_t>(token / kWriters / kPlaces); }

// Its memory is its caller's alone: not worth a sanitizer's time.
#define PRIVATE __attribute__((no_sanitize("thread")))

// The first column makes the scale of int8 1; then come the token's digits and the row's, again and again.
PRIVATE void spell(Token token, int64_t row, float* values) {
    int64_t digits[kDigits];
    int64_t rest = token;
    for (int64_t& digit : digits) digit = std::exchange(rest, rest / kBase) % kBase;
    values[0] = 127;
    const float mark = static_cast<float>(row % kBase - 63);
    for (int64_t c = 1, digit = 0; c < kWidth; ++c) {
        values[c] = c % 2 ? static_cast<float>(digits[digit]) : mark;
        if (c % 2 && ++digit == kDigits) digit = 0;
    }
}

// The comparison as a whole is watched.
PRIVATE Token read_token(int64_t row, const float* values) {
    if (values[0] == 0) {
        for (int64_t c = 0; c < kWidth; ++c)
            CHECK(values[c] == 0, "row %ld is torn: half of it zero", (long)row);
        return 0;
    }
    Token token = 0;
    for (int64_t d = kDigits - 1; d >= 0; --d)
        token = token * kBase + static_cast<int64_t>(values[2 * d + 1]);
    float expected[kWidth];
    spell(token, row, expected);
    CHECK(std::memcmp(values, expected, sizeof(expected)) == 0, "row %ld is torn", (long)row);
    return token;
}

// A table in memory that forked processes share.
class Memory {
  public:
    Memory(RowType type, bool shared) {
        const int64_t row_bytes = kWidth * item_bytes(type);
        const int64_t parts[] = {kRows * row_bytes, kRows * 4, kRows * 4, kRows * 4,
                                 journal_bytes(row_bytes)};
        for (int64_t part : parts) size_ += padded(part);
        memory_ = static_cast<std::byte*>(
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        std::byte* at[5];
        std::byte* next = memory_;
        for (int i = 0; i < 5; ++i) at[i] = std::exchange(next, next + padded(parts[i]));
        table = {at[0],
                 kRows,
                 kWidth,
                 type,
                 type == RowType::kInt8 ? reinterpret_cast<float*>(at[1]) : nullptr,
                 reinterpret_cast<int32_t*>(at[2]),
                 shared ? reinterpret_cast<uint32_t*>(at[3]) : nullptr,
                 shared ? at[4] : nullptr};
    }
    ~Memory() { munmap(memory_, size_); }

    RowTable table;

  private:
    static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }
    std::byte* memory_;
    int64_t size_ = 0;
};

std::vector<int64_t> some_ids(Random& random, int64_t most) {
    std::vector<int64_t> ids(1 + random.below(most));
    for (int64_t& id : ids) id = random.below(kRows);
    return ids;
}

// Few operations are so large that they go to the threads, and are done in parts.
int64_t some_size(Random& random) { return random.below(300) ? 12 : 6000; }

std::vector<float> spelled(const std::vector<int64_t>& ids, int64_t writer, int64_t operation) {
    std::vector<float> rows(ids.size() * kWidth);
    for (size_t i = 0; i < ids.size(); ++i)
        spell(token_of(writer, operation, i), ids[i], rows.data() + i * kWidth);
    return rows;
}

// What the tables hold after an operation: of an id that is repeated, the last row.
void push_to(std::vector<Token>& model, const std::vector<int64_t>& ids, int64_t writer, int64_t operation) {
    for (size_t i = 0; i < ids.size(); ++i) model[ids[i]] = token_of(writer, operation, i);
}

void push(Transfers& transfers, const RowTable& table, std::vector<int64_t> ids, int64_t writer,
          int64_t operation) {
    std::vector<float> rows = spelled(ids, writer, operation);
    transfers.push(table, ids.data(), static_cast<int64_t>(ids.size()), rows.data(),
                   static_cast<int32_t>(operation));
    // The caller may do with them what he likes.
    std::fill(ids.begin(), ids.end(), -1);
    std::fill(rows.begin(), rows.end(), -1.0f);
}

struct Asked {
    Transfers::Ticket ticket;
    std::vector<int64_t> ids;
    std::vector<Token> expected;
};

// Threads that share one line: the issue of each operation and its effect on the model are one step under a
// lock, so that each pull knows exactly what it has to see.
void test_order(RowType type, bool shared, int64_t operations, int num_threads) {
    Memory memory(type, shared);
    const RowTable& table = memory.table;
    Transfers transfers(num_threads);
    std::mutex mutex;
    std::vector<Token> model(kRows, 0);
    auto work = [&](int64_t writer) {
        Random random{fold(seed, writer)};
        std::vector<Asked> asked;
        auto check_one = [&] {
            const int64_t which = random.below(static_cast<int64_t>(asked.size()));
            const Asked one = std::exchange(asked[which], asked.back());
            asked.pop_back();
            const std::shared_ptr<float> rows = transfers.wait(one.ticket);
            for (size_t i = 0; i < one.ids.size(); ++i) {
                const Token seen = read_token(one.ids[i], rows.get() + i * kWidth);
                CHECK(seen == one.expected[i], "row %ld has token %ld, not %ld", (long)one.ids[i], (long)seen,
                      (long)one.expected[i]);
            }
        };
        for (int64_t n = 1; n <= operations / 4; ++n) {
            const std::vector<int64_t> ids = some_ids(random, some_size(random));
            if (random.below(2)) {
                std::lock_guard lock(mutex);
                push(transfers, table, ids, writer, n);
                push_to(model, ids, writer, n);
            } else {
                std::lock_guard lock(mutex);
                std::vector<Token> expected;
                for (int64_t id : ids) expected.push_back(model[id]);
                asked.push_back({transfers.pull(table, ids.data(), static_cast<int64_t>(ids.size()), n), ids,
                                 std::move(expected)});
            }
            if (asked.size() > 6) check_one();
            if (random.below(500) == 0) transfers.flush();
        }
        while (!asked.empty()) check_one();
    };
    std::vector<std::thread> threads;
    for (int64_t writer = 0; writer < 4; ++writer) threads.emplace_back(work, writer);
    for (std::thread& thread : threads) thread.join();
    transfers.close();
    for (int64_t row = 0; row < kRows; ++row) {
        float values[kWidth];
        Ages ages;
        read_rows(table, &row, 1, values, 0, 0, 1, ages);
        CHECK(read_token(row, values) == model[row], "a push of row %ld is lost", (long)row);
        CHECK(table.written[row] == operation_of(model[row]), "row %ld has the step of another push",
              (long)row);
    }
}

// Two lines over one shared table, as two processes have, with two threads each and no lock. A writer's own
// rows are as he left them; those of others, and those that all write, are whole and never go back to an
// earlier push of the same writer; in the end each has somebody's last push.
void test_two_lines(RowType type, int64_t operations) {
    Memory memory(type, true);
    const RowTable& table = memory.table;
    constexpr int64_t kPeople = 4;
    std::vector<std::vector<Token>> last(kPeople, std::vector<Token>(kRows, 0));
    Transfers lines[] = {Transfers(2), Transfers(2)};
    // Of eight rows, four have one owner each and four are everybody's.
    auto owner_of = [](int64_t row) { return row % 8; };
    auto work = [&](int64_t writer) {
        Transfers& line = lines[writer % 2];
        Random random{fold(seed, 100 + writer)};
        std::vector<Token> seen(kRows * kPeople, 0);
        for (int64_t n = 1; n <= operations / kPeople; ++n) {
            std::vector<int64_t> ids = some_ids(random, some_size(random));
            // Sometimes all crowd on a few rows.
            if (random.below(3) == 0)
                for (int64_t& id : ids) id %= 8;
            if (random.below(2)) {
                for (int64_t& id : ids)
                    if (owner_of(id) < kPeople) id += writer - owner_of(id);
                push(line, table, ids, writer, n);
                push_to(last[writer], ids, writer, n);
                continue;
            }
            const std::shared_ptr<float> rows =
                line.wait(line.pull(table, ids.data(), static_cast<int64_t>(ids.size()), n));
            std::vector<std::pair<Token*, Token>> found;  // a pull reads its rows in no order
            for (size_t i = 0; i < ids.size(); ++i) {
                const Token token = read_token(ids[i], rows.get() + i * kWidth);
                if (token == 0) continue;
                Token& before = seen[ids[i] * kPeople + token % kWriters];
                CHECK(token >= before, "row %ld went back", (long)ids[i]);
                found.emplace_back(&before, token);
                CHECK(owner_of(ids[i]) != writer || token == last[writer][ids[i]],
                      "a push of row %ld is lost", (long)ids[i]);
            }
            for (const auto& [before, token] : found) *before = std::max(*before, token);
        }
        line.flush();
    };
    std::vector<std::thread> threads;
    for (int64_t writer = 0; writer < kPeople; ++writer) threads.emplace_back(work, writer);
    for (std::thread& thread : threads) thread.join();
    for (int64_t row = 0; row < kRows; ++row) {
        float values[kWidth];
        const int32_t step = read_shared_row(table, row, values);
        const Token token = read_token(row, values);
        bool is_last = false;
        for (int64_t writer = 0; writer < kPeople; ++writer) is_last |= token == last[writer][row];
        CHECK(is_last, "the last push of row %ld is lost", (long)row);
        CHECK(step == operation_of(token), "row %ld has the step of another push", (long)row);
    }
}

// Writers and readers who do nothing but meet on two rows.
void test_collisions(RowType type, int64_t rounds) {
    Memory memory(type, true);
    const RowTable& table = memory.table;
    auto look = [&](int64_t row) {
        float values[kWidth];
        const int32_t step = read_shared_row(table, row, values);
        const Token token = read_token(row, values);
        CHECK(step == operation_of(token), "row %ld has the step of another push", (long)row);
        return token;
    };
    auto work = [&](int64_t writer) {
        std::vector<int64_t> ids(500);
        for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i % 2);
        const std::vector<float> rows = spelled(ids, writer, 1);
        for (int64_t n = 0; n < rounds; ++n) {
            if (writer < 3)
                write_rows(table, ids.data(), 500, rows.data(), 1, 0, 1);
            else
                for (int64_t id : ids) look(id);
        }
    };
    std::vector<std::thread> threads;
    for (int64_t writer = 0; writer < 4; ++writer) threads.emplace_back(work, writer);
    for (std::thread& thread : threads) thread.join();
    for (int64_t row = 0; row < 2; ++row) {
        const int64_t place = look(row) / kWriters % kPlaces;
        CHECK(place == 498 + row, "the last push of row %ld is lost", (long)row);
        CHECK(table.versions[row] >> 7 == 3 * rounds * 250, "row %ld was written by two at once", (long)row);
    }
}

// The operation `n` of a process that will be killed.
std::vector<int64_t> planned_ids(int64_t n) {
    Random random{fold(seed, 1'000'000 + n)};
    return some_ids(random, random.below(20) ? 12 : 1000);
}

// A process is killed while it writes. Each row then has the last push that ended, or the one that was under
// way.
int64_t test_kill(RowType type, int64_t rounds) {
    Memory memory(type, true);
    const RowTable& table = memory.table;
    struct Progress {
        std::atomic<int64_t> begun, ended;
    };
    auto* progress = static_cast<Progress*>(
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    std::vector<Token> model(kRows, 0);
    int64_t repaired = 0, modelled = 0;
    Random random{fold(seed, 77)};
    for (int64_t round = 0; round < rounds; ++round) {
        const int64_t first = progress->begun + 1;
        const pid_t child = fork();
        CHECK(child >= 0, "no child to be had");
        if (child == 0) {
            // All is prepared, so that it does nothing but write; half of the time in threads.
            std::vector<std::vector<int64_t>> ids;
            std::vector<std::vector<float>> rows;
            for (int64_t n = first; n < first + 100; ++n) {
                ids.push_back(planned_ids(n));
                rows.push_back(spelled(ids.back(), 0, n));
            }
            std::unique_ptr<Transfers> transfers;
            if (round % 2) transfers = std::make_unique<Transfers>(2);
            for (int64_t k = 0; k < 100; ++k) {
                const auto step = static_cast<int32_t>(first + k);
                const auto size = static_cast<int64_t>(ids[k].size());
                progress->begun = step;
                if (transfers) {
                    transfers->push(table, ids[k].data(), size, rows[k].data(), step);
                    transfers->flush();
                } else {
                    write_rows(table, ids[k].data(), size, rows[k].data(), step, 0, 1);
                }
                progress->ended = step;
            }
            while (true) pause();
        }
        while (progress->begun < first) usleep(20);
        usleep(static_cast<useconds_t>(random.below(600)));
        kill(child, SIGKILL);
        // Whoever comes first repairs; a dead process that nobody has waited for is dead as well.
        const bool wait_first = random.below(2), recover_first = random.below(2);
        if (wait_first) waitpid(child, nullptr, 0);
        if (wait_first && recover_first) repaired += recover(table);
        // Rows of the operation under way may be read before the child is quite gone, but not twice
        // differently.
        if (!wait_first) {
            for (int64_t id : planned_ids(progress->begun)) {
                float values[kWidth];
                read_shared_row(table, id, values);
                read_token(id, values);
            }
            waitpid(child, nullptr, 0);
        }
        for (; modelled < progress->ended; ++modelled)
            push_to(model, planned_ids(modelled + 1), 0, modelled + 1);
        std::vector<Token> newer = model;
        for (int64_t n = modelled + 1; n <= progress->begun; ++n) push_to(newer, planned_ids(n), 0, n);
        for (int64_t row = 0; row < kRows; ++row) {
            float values[kWidth];
            const int32_t step = read_shared_row(table, row, values);
            const Token token = read_token(row, values);
            // Of a repeated id, it may also be one before the last.
            CHECK(token == model[row] || (token <= newer[row] && operation_of(token) == progress->begun),
                  "row %ld has token %ld after the kill, neither old nor new", (long)row, (long)token);
            CHECK(step == operation_of(token), "row %ld has the step of another push", (long)row);
            model[row] = token;
        }
        modelled = progress->begun;
        repaired += recover(table);
        for (int64_t row = 0; row < kRows; ++row)
            CHECK(table.versions[row] % 2 == 0, "row %ld is locked for ever", (long)row);
        for (int slot = 0; slot < kSlots; ++slot) {
            uint64_t owner;
            const int64_t slot_bytes = journal_bytes(table.row_bytes()) / kSlots;
            std::memcpy(&owner, table.journal + slot * slot_bytes, sizeof(owner));
            CHECK(owner == 0, "slot %d belongs to a dead process for ever", slot);
        }
    }
    munmap(progress, sizeof(Progress));
    return repaired;
}

// A forked child has no threads: it must be told so, and neither hang nor crash.
void test_fork() {
    Memory memory(RowType::kFloat32, false);
    auto transfers = std::make_unique<Transfers>(2);
    const std::vector<int64_t> ids = {1, 2, 3};
    const std::shared_ptr<float> rows = transfers->wait(transfers->pull(memory.table, ids.data(), 3, 0));
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        try {
            transfers->flush();
        } catch (const std::runtime_error&) {
            transfers->close();
            std::_Exit(0);
        }
        std::_Exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child used its parent's threads");
}

}  // namespace

int main(int count, char** arguments) {
    const int64_t operations = count > 1 ? std::atoll(arguments[1]) : 100'000;
    if (count > 2) seed = std::strtoull(arguments[2], nullptr, 10);
    // Those that fork come first, while there is one thread.
    int64_t repaired = 0, kills = 0;
    for (RowType type : kTypes) {
        const int64_t rounds = operations / 2000;
        repaired += test_kill(type, rounds);
        kills += rounds;
    }
    CHECK(repaired > 0, "no process was killed in the middle of a row");
    test_fork();
    for (RowType type : kTypes) {
        test_order(type, false, operations / 10, 3);
        test_order(type, true, operations / 20, 1);
        test_two_lines(type, operations / 10);
        test_collisions(type, operations / 400);
    }
    std::printf("%lld operations in order, %lld kills, %lld rows repaired\n", (long long)operations,
                (long long)kills, (long long)repaired);
}
