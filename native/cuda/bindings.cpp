// The module gnnscale._cuda; with GNNSCALE_ON_HOST the same kernels as loops, for tests without a GPU.
#include "bind.h"

namespace gnnscale::gpu {

void bind_aggregation(nb::module_& m);
void bind_sampling(nb::module_& m);
void bind_table(nb::module_& m);

#ifdef GNNSCALE_ON_HOST
#define MODULE _cuda_on_host
#else
#define MODULE _cuda
// Why no kernel can run; empty where they can.
std::string obstacle() {
    int devices = 0, driver = 0, runtime = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaSuccess && devices > 0) return "";
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    const auto version = [](int number) {
        return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
    };
    if (driver > 0 && driver < runtime)
        return "they were built by CUDA " + version(runtime) + ", and the driver is for " + version(driver);
    return error == cudaSuccess ? "there is no GPU" : cudaGetErrorString(error);
}
#endif

}  // namespace gnnscale::gpu

NB_MODULE(MODULE, m) {
    nb::set_leak_warnings(false);
    gnnscale::gpu::bind_aggregation(m);
    gnnscale::gpu::bind_sampling(m);
    gnnscale::gpu::bind_table(m);
#ifndef GNNSCALE_ON_HOST
    m.def("obstacle", gnnscale::gpu::obstacle, "Tell why no kernel can run; empty where they can.");
#endif
}
