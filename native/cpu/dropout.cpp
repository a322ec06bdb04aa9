#include "dropout.h"

#include <algorithm>
#include <cstring>

#include "multiversion.h"
#include "parallel.h"
#include "random.h"

namespace gnnscale {
namespace {

constexpr int64_t kWords = 64;
constexpr int64_t kLanes = 4;
constexpr int64_t kTile = kWords * kLanes;
constexpr int64_t kTilesPerThread = 1024;

// Whole tiles from number `first` on; x and out point at the first one.
MULTIVERSION void drop_tiles(const float* __restrict x, int64_t first, int64_t count, int32_t keep,
                             uint64_t key, float* __restrict out) {
    const float scale = 65536.0f / static_cast<float>(keep);
    for (int64_t tile = first; tile < first + count; ++tile, x += kTile, out += kTile) {
        uint64_t words[kWords];
        for (int64_t w = 0; w < kWords; ++w) words[w] = fold(key, tile * kWords + w);
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            for (int64_t w = 0; w < kWords; ++w) {
                const int32_t bits = static_cast<uint16_t>(words[w] >> 16 * lane);
                // All ones if kept. By arithmetic, as gcc makes a branch of a conditional, mispredicted as
                // often as not.
                const uint32_t mask = static_cast<uint32_t>((bits - keep) >> 31);
                const float scaled = x[kWords * lane + w] * scale;
                uint32_t pattern;
                std::memcpy(&pattern, &scaled, sizeof pattern);
                pattern &= mask;
                std::memcpy(out + kWords * lane + w, &pattern, sizeof pattern);
            }
        }
    }
}

}  // namespace

void dropout(const float* x, int64_t size, int64_t keep, uint64_t key, float* out, int num_threads) {
    const int64_t tiles = size / kTile, rest = size % kTile;
    run_ranges(tiles, parts_for(tiles, kTilesPerThread, num_threads), [&](int64_t begin, int64_t end) {
        drop_tiles(x + begin * kTile, begin, end - begin, keep, key, out + begin * kTile);
    });
    if (rest > 0) {
        float padded[kTile] = {}, dropped[kTile];
        std::copy_n(x + tiles * kTile, rest, padded);
        drop_tiles(padded, tiles, 1, keep, key, dropped);
        std::copy_n(dropped, rest, out + tiles * kTile);
    }
}

}  // namespace gnnscale
