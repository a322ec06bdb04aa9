// What LABOR-i solves for each row; compiled without contraction of products and sums.
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

constexpr double kInfinity = __builtin_huge_val();

// A warp a row, whose lanes are the strands of native/include/ordered_sums.h; labor.cpp has the method.
struct Roots {
    const int64_t* offsets;
    const int32_t* sources;
    const double* pi;
    int64_t fanout;
    double* y;

    DEVICE void operator()(int64_t row) const {
        const int64_t first = offsets[row], degree = offsets[row + 1] - first;
        if (degree == 0) return;
        const double root = degree > fanout ? solved(first, degree) : least(first, degree);
        each_lane([&](int lane) {
            if (lane == 0) y[row] = root;
        });
    }

  private:
    DEVICE double of(int64_t edge) const { return pi[sources[edge]]; }

    DEVICE double least(int64_t first, int64_t degree) const {
        PerLane<double> found;
        each_lane([&](int lane) {
            found[lane] = kInfinity;
            for (int64_t e = lane; e < degree; e += kLanes) found[lane] = smaller(found[lane], of(first + e));
        });
        for (int mask = kLanes / 2; mask > 0; mask /= 2) {
            PerLane<double> others = exchanged(found, mask);
            each_lane([&](int lane) { found[lane] = smaller(found[lane], others[lane]); });
        }
        return found[0];
    }

    DEVICE double solved(int64_t first, int64_t degree) const {
        const double d = static_cast<double>(degree), target = d * d / static_cast<double>(fanout);
        double bound = kInfinity;
        for (int64_t before = degree;;) {
            PerLane<double> slope;
            PerLane<int64_t> free;
            each_lane([&](int lane) {
                slope[lane] = 0;
                free[lane] = 0;
                for (int64_t e = lane; e < degree; e += kLanes) {
                    const double p = of(first + e);
                    if (!(p < bound)) continue;
                    slope[lane] += 1 / p;
                    ++free[lane];
                }
            });
            add_up(slope, kLanes);
            add_up(free, kLanes);
            const double root = (target - d + static_cast<double>(free[0])) / slope[0];
            bound = smaller(bound, root);
            PerLane<int64_t> still;
            each_lane([&](int lane) {
                still[lane] = 0;
                for (int64_t e = lane; e < degree; e += kLanes) still[lane] += of(first + e) < bound;
            });
            add_up(still, kLanes);
            if (still[0] == before) return root;
            before = still[0];
        }
    }

    static DEVICE double smaller(double a, double b) { return b < a ? b : a; }
};

}  // namespace

void labor_roots(const int64_t* offsets, int64_t num_rows, const int32_t* sources, const double* pi, int64_t fanout,
                 double* y, Stream stream) {
    launch(Roots{offsets, sources, pi, fanout, y}, num_rows, stream);
}

}  // namespace gnnscale::gpu
