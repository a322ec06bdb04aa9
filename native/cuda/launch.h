// Starting kernels: a kernel is an object that is called with the number of a warp.
#pragma once

#include <cstdint>

#include "warp.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#endif

namespace gnnscale::gpu {

// The caller's stream, as a number; memory and kernels are in its order.
using Stream = uintptr_t;

#ifdef __CUDACC__

constexpr int kThreads = 256;

template <class Kernel>
__global__ void __launch_bounds__(kThreads) run(const Kernel kernel, int64_t warps) {
    const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
    if (warp < warps) kernel(warp);
}

template <class Kernel>
void launch(const Kernel& kernel, int64_t warps, Stream stream) {
    if (warps <= 0) return;
    constexpr int64_t kWarps = kThreads / kLanes;
    const int64_t blocks = (warps + kWarps - 1) / kWarps;
    if (blocks > INT32_MAX) throw std::invalid_argument("the operation is too large for one kernel.");
    run<<<static_cast<unsigned>(blocks), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(kernel, warps);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
        throw std::runtime_error(std::string("a kernel cannot be started: ") + cudaGetErrorString(error));
}

#else

// Backwards, as no result may depend on the order.
template <class Kernel>
void launch(const Kernel& kernel, int64_t warps, Stream) {
    for (int64_t warp = warps - 1; warp >= 0; --warp) kernel(warp);
}

#endif

// A lane each: work(i) for i below `size`.
template <class Work>
struct Each {
    Work work;
    int64_t size;

    DEVICE void operator()(int64_t warp) const {
        each_lane([&](int lane) {
            const int64_t i = warp * kLanes + lane;
            if (i < size) work(i);
        });
    }
};

template <class Work>
void for_each(const Work& work, int64_t size, Stream stream) {
    launch(Each<Work>{work, size}, (size + kLanes - 1) / kLanes, stream);
}

}  // namespace gnnscale::gpu
