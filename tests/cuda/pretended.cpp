// Has torch's CPU build believe that there is a GPU, as far as its C++ asks: tensors of the device "cuda" may be in a graph
// of autograd, whose engine gives them a thread. The memory, streams and events are Python's (pretended.py).
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto kCuda = c10::DeviceType::CUDA;

struct Guard final : c10::impl::NoOpDeviceGuardImpl<kCuda> {
    c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
    c10::Device getDevice() const override { return {kCuda, 0}; }
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
    c10::Stream getStream(c10::Device) const noexcept override {
        return c10::Stream(c10::Stream::DEFAULT, {kCuda, 0});
    }
    c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
    void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
    void block(void*, const c10::Stream&) const override {}
    bool queryEvent(void*) const override { return true; }
    void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
    void synchronizeEvent(void*) const override {}
    void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct Hooks final : at::CUDAHooksInterface {
    void init() const override {}
    bool hasCUDA() const override { return true; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

}  // namespace

// torch has made its hooks before anybody could register others: they answer as ours do while `there`.
extern "C" void pretend(bool there) {
    static Hooks ours;
    auto* torchs = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
    static void* const before = *reinterpret_cast<void**>(torchs);
    *reinterpret_cast<void**>(torchs) = there ? *reinterpret_cast<void**>(&ours) : before;
}
