#include "sparse_rows.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dropout.h"
#include "multiversion.h"
#include "parallel.h"

#define INLINE inline __attribute__((always_inline))

namespace gnnscale {
namespace {

constexpr int64_t kWorkPerThread = 1 << 20;
constexpr int64_t kTile = 16;    // columns that are added up in a register
constexpr int64_t kChunk = 512;  // entries at a time

// Entries of one row that dropout keeps.
struct Entries {
    int64_t count;
    int64_t columns[kChunk];
    float values[kChunk];
};

// Row i of X in the matrix.
INLINE int64_t row_of(const SparseRows& x, int64_t i) { return x.rows ? x.rows[i] : i; }

MULTIVERSION bool all_valid(const SparseRows& x, int64_t begin, int64_t end) {
    bool valid = true;
    for (int64_t i = begin; i < end && valid; ++i) {
        const int64_t row = row_of(x, i);
        if (row < 0 || row >= x.matrix_rows) return false;
        const int64_t first = x.indptr[row], stop = x.indptr[row + 1];
        if (first < 0 || first > stop || stop > x.num_entries) return false;
        uint32_t largest = 0;
        for (int64_t e = first; e < stop; ++e) largest = std::max(largest, static_cast<uint32_t>(x.indices[e]));
        valid = first == stop || largest < static_cast<uint64_t>(x.num_cols);
    }
    return valid;
}

// Throws for the first thing in rows begin to end - 1 of X that does not exist. Apart from the work, because nothing
// can be thrown through a function that is compiled more than once.
void check(const SparseRows& x, int64_t begin, int64_t end) {
    if (all_valid(x, begin, end)) return;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t row = row_of(x, i);
        if (row < 0 || row >= x.matrix_rows)
            throw std::out_of_range("rows[" + std::to_string(i) + "] is " + std::to_string(row) +
                                    "; the matrix has " + std::to_string(x.matrix_rows) + " rows.");
        const int64_t first = x.indptr[row], stop = x.indptr[row + 1];
        if (first < 0 || first > stop || stop > x.num_entries)
            throw std::invalid_argument("indptr has to rise from 0 to the number of entries, " +
                                        std::to_string(x.num_entries) + ".");
        for (int64_t e = first; e < stop; ++e)
            if (x.indices[e] < 0 || x.indices[e] >= x.num_cols)
                throw std::out_of_range("indices holds " + std::to_string(x.indices[e]) + "; the matrix has " +
                                        std::to_string(x.num_cols) + " columns.");
    }
}

// Entries first to first + count - 1 of the matrix, which are some of row i of X.
INLINE void drop(const SparseRows& x, int64_t i, int64_t first, int64_t count, Entries& kept) {
    const int32_t* columns = x.indices + first;
    const float* values = x.values + first;
    const float scale = 65536.0f / static_cast<float>(x.keep);
    if (x.keep >= 65536) {
        for (int64_t e = 0; e < count; ++e) kept.columns[e] = columns[e], kept.values[e] = values[e];
        kept.count = count;
        return;
    }
    uint64_t bits[kChunk];
    const uint64_t before = static_cast<uint64_t>(i) * x.num_cols;
    for (int64_t e = 0; e < count; ++e) bits[e] = dropout_bits(x.key, before + static_cast<uint32_t>(columns[e]));
    int64_t size = 0;
    for (int64_t e = 0; e < count; ++e) {
        kept.columns[size] = columns[e];
        kept.values[size] = values[e] * scale;
        size += static_cast<int64_t>(bits[e]) < x.keep;
    }
    kept.count = size;
}

// work(entries) for the entries of row i, in chunks.
template <class Work>
INLINE void each_chunk(const SparseRows& x, int64_t i, Entries& kept, const Work& work) {
    const int64_t begin = x.indptr[row_of(x, i)], end = x.indptr[row_of(x, i) + 1];
    for (int64_t first = begin; first < end; first += kChunk) {
        drop(x, i, first, std::min(kChunk, end - first), kept);
        work();
    }
}

// A whole tile has a constant number of columns, so that the compiler keeps it in a register.
template <class Work>
INLINE void each_tile(int64_t begin, int64_t end, const Work& work) {
    for (; begin + kTile <= end; begin += kTile) work(begin, std::integral_constant<int64_t, kTile>());
    if (begin < end) work(begin, end - begin);
}

MULTIVERSION void multiply(const SparseRows& x, const float* dense, int64_t width, float* out, int64_t begin,
                           int64_t end) {
    Entries kept;
    for (int64_t i = begin; i < end; ++i) {
        float* to = out + i * width;
        std::fill_n(to, width, 0.0f);
        each_chunk(x, i, kept, [&]() __attribute__((always_inline)) {
            each_tile(0, width, [&](int64_t column, auto columns) __attribute__((always_inline)) {
                float sum[kTile] = {};
                for (int64_t c = 0; c < columns; ++c) sum[c] = to[column + c];
                for (int64_t e = 0; e < kept.count; ++e) {
                    const float* from = dense + kept.columns[e] * width + column;
                    for (int64_t c = 0; c < columns; ++c) sum[c] += kept.values[e] * from[c];
                }
                for (int64_t c = 0; c < columns; ++c) to[column + c] = sum[c];
            });
        });
    }
}

// Columns begin to end - 1 of the result.
MULTIVERSION void multiply_transposed(const SparseRows& x, const float* dense, int64_t width, float* out,
                                      int64_t begin, int64_t end) {
    for (int64_t c = 0; c < x.num_cols; ++c) std::fill(out + c * width + begin, out + c * width + end, 0.0f);
    Entries kept;
    for (int64_t i = 0; i < x.num_rows; ++i) {
        const float* from = dense + i * width;
        each_chunk(x, i, kept, [&]() __attribute__((always_inline)) {
            each_tile(begin, end, [&](int64_t column, auto columns) __attribute__((always_inline)) {
                float row[kTile];
                for (int64_t c = 0; c < columns; ++c) row[c] = from[column + c];
                for (int64_t e = 0; e < kept.count; ++e) {
                    float* to = out + kept.columns[e] * width + column;
                    for (int64_t c = 0; c < columns; ++c) to[c] += kept.values[e] * row[c];
                }
            });
        });
    }
}

// About how many entries X has.
int64_t entries(const SparseRows& x) {
    return x.matrix_rows ? x.num_entries / x.matrix_rows * x.num_rows : 0;
}

}  // namespace

void multiply_rows(const SparseRows& x, const float* dense, int64_t width, float* out, int num_threads) {
    const int parts = parts_for(entries(x) * (width + 16), kWorkPerThread, num_threads);
    run_ranges(x.num_rows, parts, [&](int64_t begin, int64_t end) {
        check(x, begin, end);
        multiply(x, dense, width, out, begin, end);
    });
}

void multiply_rows_transposed(const SparseRows& x, const float* dense, int64_t width, float* out,
                              int num_threads) {
    check(x, 0, x.num_rows);
    // Rows of X meet in the same rows of the result, so threads share out its columns.
    const int64_t tiles = (width + kTile - 1) / kTile;
    const int parts = static_cast<int>(std::min<int64_t>(
        parts_for(entries(x) * (width + 16), kWorkPerThread, num_threads), std::max<int64_t>(tiles, 1)));
    run_ranges(tiles, parts, [&](int64_t begin, int64_t end) {
        multiply_transposed(x, dense, width, out, begin * kTile, std::min(end * kTile, width));
    });
}

}  // namespace gnnscale
