// Sums of doubles in an order that the processor's vectors and a GPU's threads can follow, so that both round alike.
#pragma once

#include <algorithm>
#include <cstdint>

namespace gnnscale {

// Number e is added to strand e % 32; in the end strands are added in pairs, j and j + 16, then j and j + 8, and so on.
class Strands {
  public:
    static constexpr int kStrands = 32;

    double& operator[](int64_t e) { return sums_[e % kStrands]; }

    double sum() {
        for (int half = kStrands / 2; half > 0; half /= 2)
            for (int j = 0; j < half; ++j) sums_[j] += sums_[j + half];
        return sums_[0];
    }

  private:
    double sums_[kStrands] = {};
};

// out[i] = value(0) + ... + value(i): added up within blocks of 256, whose totals are added up before them. `out` is null
// where the total is all that is wanted, which is given.
constexpr int64_t kSummedBlock = 256;

template <class Value>
double add_up_in_blocks(const Value& value, int64_t count, double* out) {
    double before = 0, within = 0;
    for (int64_t begin = 0; begin < count; begin += kSummedBlock) {
        before += within;
        within = 0;
        for (int64_t i = begin; i < std::min(begin + kSummedBlock, count); ++i) {
            within += value(i);
            if (out) out[i] = before + within;
        }
    }
    return before + within;
}

}  // namespace gnnscale
