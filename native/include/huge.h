// Huge pages for large memory that is read or written at random: one entry of the processor's page table
// cache then covers 2 MB in the place of 4 KB.
#pragma once

#include <sys/mman.h>

#include <cstdint>

namespace gnnscale {

constexpr int64_t kHugePage = 2 << 20;

// A wish, before the memory is first touched; small memory stays as it is.
inline void wish_huge([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const auto begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kHugePage * kHugePage;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// The same for memory in use: what it holds is moved to huge pages now. False where the system cannot (Linux before
// 6.1, or no memory of that size in one piece).
inline bool make_huge([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#ifdef __linux__
    constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers do not name
    const auto begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kHugePage * kHugePage;
    return begin < end && madvise(reinterpret_cast<void*>(begin), end - begin, kCollapse) == 0;
#else
    return false;
#endif
}

}  // namespace gnnscale
