// A warp, and a number for each of its lanes. The same source runs on a GPU, where a lane is a thread, and on the host,
// where the lanes take turns; so the logic of the kernels is tested without a GPU.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#else
#define DEVICE inline
#endif

namespace gnnscale::gpu {

constexpr int kLanes = 32;

#ifdef __CUDACC__

template <class T>
class PerLane {
  public:
    __device__ T& operator[](int) { return value_; }

  private:
    T value_;
};

// Runs work(lane) for all lanes.
template <class Work>
DEVICE void each_lane(const Work& work) {
    work(static_cast<int>(threadIdx.x % kLanes));
}

// What the lane has whose number differs in the bits of `mask`; T is made of words of four bytes.
template <class T>
DEVICE PerLane<T> exchanged(PerLane<T>& values, int mask) {
    static_assert(sizeof(T) % 4 == 0);
    PerLane<T> others;
    uint32_t words[sizeof(T) / 4];
    memcpy(words, &values[0], sizeof(T));
#pragma unroll
    for (uint32_t& word : words) word = __shfl_xor_sync(0xFFFFFFFF, word, mask);
    memcpy(&others[0], words, sizeof(T));
    return others;
}

// Whether any lane's number is not 0.
DEVICE bool any_lane(PerLane<uint32_t>& values) { return __any_sync(0xFFFFFFFF, values[0] != 0); }

// What the lane has that is so many before; of the first ones, 0.
DEVICE PerLane<int64_t> shifted(PerLane<int64_t>& values, int distance) {
    PerLane<int64_t> others;
    const long long other = __shfl_up_sync(0xFFFFFFFF, static_cast<long long>(values[0]), distance);
    others[0] = static_cast<int>(threadIdx.x % kLanes) < distance ? 0 : other;
    return others;
}

// What the last lane has.
DEVICE int64_t last_lane(PerLane<int64_t>& values) {
    return __shfl_sync(0xFFFFFFFF, static_cast<long long>(values[0]), kLanes - 1);
}

// After it, every lane sees what the others have written before.
DEVICE void meet() { __syncwarp(); }

// Makes a number the smaller of it and another, whoever else does so meanwhile.
DEVICE void lower(int32_t* number, int32_t other) { atomicMin(number, other); }

// Adds to a number, whoever else does so meanwhile.
DEVICE void add_to(int32_t* number, int32_t by) { atomicAdd(number, by); }
DEVICE void add_to(int64_t* number, int64_t by) {
    atomicAdd(reinterpret_cast<unsigned long long*>(number), static_cast<unsigned long long>(by));
}

// Memory that no kernel of the same launch writes.
template <int Bytes>
struct Words;
template <>
struct Words<1> { using type = uint8_t; };
template <>
struct Words<2> { using type = uint16_t; };
template <>
struct Words<4> { using type = uint32_t; };
template <>
struct Words<8> { using type = uint2; };
template <>
struct Words<16> { using type = uint4; };

template <class T>
DEVICE T read(const T* place) {
    const auto words = __ldg(reinterpret_cast<const typename Words<sizeof(T)>::type*>(place));
    T value;
    memcpy(&value, &words, sizeof(T));
    return value;
}

#else

template <class T>
class PerLane {
  public:
    T& operator[](int lane) { return values_[lane]; }

  private:
    T values_[kLanes];
};

template <class Work>
void each_lane(const Work& work) {
    for (int lane = 0; lane < kLanes; ++lane) work(lane);
}

template <class T>
PerLane<T> exchanged(PerLane<T>& values, int mask) {
    PerLane<T> others;
    for (int lane = 0; lane < kLanes; ++lane) others[lane] = values[lane ^ mask];
    return others;
}

inline bool any_lane(PerLane<uint32_t>& values) {
    uint32_t any = 0;
    for (int lane = 0; lane < kLanes; ++lane) any |= values[lane];
    return any != 0;
}

inline PerLane<int64_t> shifted(PerLane<int64_t>& values, int distance) {
    PerLane<int64_t> others;
    for (int lane = 0; lane < kLanes; ++lane) others[lane] = lane < distance ? 0 : values[lane - distance];
    return others;
}

inline int64_t last_lane(PerLane<int64_t>& values) { return values[kLanes - 1]; }

inline void meet() {}

inline void lower(int32_t* number, int32_t other) {
    if (other < *number) *number = other;
}

template <class T>
void add_to(T* number, T by) {
    *number += by;
}

template <class T>
T read(const T* place) {
    return *place;
}

#endif

// Each lane's number becomes the sum over its group: lanes in succession, as many as a power of two says.
template <class T>
DEVICE void add_up(PerLane<T>& values, int group) {
    for (int mask = group / 2; mask > 0; mask /= 2) {
        PerLane<T> others = exchanged(values, mask);
        each_lane([&](int lane) { values[lane] += others[lane]; });
    }
}

// Each lane's number becomes the sum over the lanes up to it.
DEVICE void running_sum(PerLane<int64_t>& values) {
    for (int distance = 1; distance < kLanes; distance *= 2) {
        PerLane<int64_t> others = shifted(values, distance);
        each_lane([&](int lane) { values[lane] += others[lane]; });
    }
}

// Numbers side by side, which cross in one access; the address is a multiple of their size.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
    T values[N];
};

template <int N, class T>
DEVICE Pack<T, N> read_pack(const T* place) {
    return read(reinterpret_cast<const Pack<T, N>*>(place));
}

template <class T, int N>
DEVICE void write_pack(const Pack<T, N>& pack, T* place) {
    *reinterpret_cast<Pack<T, N>*>(place) = pack;
}

// Integers of 32 or 64 bits, told apart when they are read: all threads take the same way, and there are half as many
// kernels to compile.
struct Integers {
    const void* data;
    bool wide;

    DEVICE int64_t operator[](int64_t i) const {
        return wide ? read(static_cast<const int64_t*>(data) + i) : read(static_cast<const int32_t*>(data) + i);
    }
};

}  // namespace gnnscale::gpu
