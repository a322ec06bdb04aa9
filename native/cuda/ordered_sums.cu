// Sums of doubles in the CPU's order; compiled without contraction of products and sums.
#include "sampling.h"

namespace gnnscale::gpu {
namespace {

constexpr int64_t kSummedBlock = 256;  // of native/include/ordered_sums.h

template <class Real>
struct SegmentSum {
    const int64_t *offsets, *order;
    const Real* values;
    Real* out;

    DEVICE void operator()(int64_t i) const {
        Real sum = 0;
        for (int64_t e = offsets[i]; e < offsets[i + 1]; ++e) sum += values[order ? order[e] : e];
        out[i] = sum;
    }
};

struct WithinBlock {
    const double* values;
    int64_t count;
    double *totals, *out;

    DEVICE void operator()(int64_t block) const {
        const int64_t begin = block * kSummedBlock;
        const int64_t end = begin + kSummedBlock < count ? begin + kSummedBlock : count;
        double sum = 0;
        for (int64_t i = begin; i < end; ++i) out[i] = sum += values[i];
        totals[block] = sum;
    }
};

// One lane does it all: an element stands for 256.
struct BeforeBlocks {
    int64_t blocks;
    const double* totals;
    double* before;

    DEVICE void operator()(int64_t) const {
        double sum = 0;
#pragma unroll 8
        for (int64_t block = 0; block < blocks; ++block) {
            before[block] = sum;
            sum += read(totals + block);
        }
    }
};

struct AddBefore {
    const double* before;
    double* out;

    DEVICE void operator()(int64_t i) const { out[i] = before[i / kSummedBlock] + out[i]; }
};

struct WeightSums {
    const float* weight;
    const int64_t *offsets, *shift;
    double* sums;

    DEVICE void operator()(int64_t row) const {
        double sum = 0;
        for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e)
            sums[e] = sum += static_cast<double>(read(weight + e + shift[row]));
    }
};

}  // namespace

template <class Real>
void segment_sums(const int64_t* offsets, int64_t count, const int64_t* order, const Real* values, Real* out,
                  Stream stream) {
    for_each(SegmentSum<Real>{offsets, order, values, out}, count, stream);
}
template void segment_sums(const int64_t*, int64_t, const int64_t*, const float*, float*, Stream);
template void segment_sums(const int64_t*, int64_t, const int64_t*, const double*, double*, Stream);

void cumulative_sums(const double* values, int64_t count, double* totals, double* out, Stream stream) {
    const int64_t blocks = (count + kSummedBlock - 1) / kSummedBlock;
    if (blocks == 0) return;
    for_each(WithinBlock{values, count, totals, out}, blocks, stream);
    for_each(BeforeBlocks{blocks, totals, totals + blocks}, 1, stream);
    for_each(AddBefore{totals + blocks, out}, count, stream);
}

void row_weight_sums(const float* weight, const int64_t* offsets, const int64_t* shift, int64_t num_rows, double* sums,
                     Stream stream) {
    for_each(WeightSums{weight, offsets, shift, sums}, num_rows, stream);
}

}  // namespace gnnscale::gpu
