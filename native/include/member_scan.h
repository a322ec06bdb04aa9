// Which of the nodes of a row are members of a map: 16 at a time where the processor gathers and compresses (AVX-512),
// one by one elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace gnnscale {

// So many entries behind the last one are written over.
constexpr int64_t kScanSlack = 16;

// What is found goes to the ends of both arrays, whose size this changes: the members themselves, and their numbers,
// of which the row's first node has `start`. False if a node of the row is none of the graph.
struct Scan {
    const uint64_t* bits;
    uint64_t num_nodes;

    template <class Index>
    bool narrow(const Index* nodes, int64_t count, int64_t start, Index* found, int64_t* numbers,
                int64_t& size) const {
        bool all_valid = true;
        int64_t end = size;
        for (int64_t i = 0; i < count; ++i) {
            const auto node = static_cast<uint64_t>(nodes[i]);
            const bool valid = node < num_nodes;
            all_valid &= valid;
            // Without a branch, which nobody could predict.
            found[end] = nodes[i];
            numbers[end] = start + i;
            end += valid && (bits[node >> 6] >> (node & 63) & 1);
        }
        size = end;
        return all_valid;
    }

    bool row(const int64_t* nodes, int64_t count, int64_t start, int64_t* found, int64_t* numbers,
             int64_t& size) const {
        return narrow(nodes, count, start, found, numbers, size);
    }

    bool row(const int32_t* nodes, int64_t count, int64_t start, int32_t* found, int64_t* numbers,
             int64_t& size) const {
#if defined(__x86_64__) && defined(__GNUC__)
        if (__builtin_cpu_supports("avx512f")) return wide(nodes, count, start, found, numbers, size);
#endif
        return narrow(nodes, count, start, found, numbers, size);
    }

#if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("avx512f"))) bool wide(const int32_t* nodes, int64_t count, int64_t start, int32_t* found,
                                                 int64_t* numbers, int64_t& size) const {
        const uint64_t most = std::min(num_nodes, uint64_t{1} << 31);  // no id of 32 bits is larger
        const __m512i limit = _mm512_set1_epi32(static_cast<int32_t>(most)), zero = _mm512_setzero_si512();
        const __m512i one = _mm512_set1_epi32(1), low5 = _mm512_set1_epi32(31);
        const __m512i upto7 = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
        unsigned invalid = 0;
        int64_t end = size;
        for (int64_t i = 0; i < count; i += 16) {
            const __mmask16 lanes = count - i >= 16 ? 0xFFFF : (1u << (count - i)) - 1;
            const __m512i node = _mm512_maskz_loadu_epi32(lanes, nodes + i);
            const __mmask16 valid = _mm512_mask_cmplt_epu32_mask(lanes, node, limit);
            invalid |= lanes ^ valid;
            // Halves of the words of bits, the lower half first as x86 has it.
            const __m512i place = _mm512_maskz_srli_epi32(valid, node, 5);
            const __m512i word = _mm512_mask_i32gather_epi32(zero, valid, place, bits, 4);
            const __m512i bit = _mm512_maskz_sllv_epi32(valid, one, _mm512_and_si512(node, low5));
            const unsigned member = _mm512_mask_test_epi32_mask(valid, word, bit);
            const __m512i number = _mm512_add_epi64(upto7, _mm512_set1_epi64(start + i));
            const __m512i later = _mm512_add_epi64(number, _mm512_set1_epi64(8));
            const int few = __builtin_popcount(member & 0xFF);
            _mm512_storeu_si512(found + end, _mm512_maskz_compress_epi32(member, node));
            _mm512_storeu_si512(numbers + end, _mm512_maskz_compress_epi64(member & 0xFF, number));
            _mm512_storeu_si512(numbers + end + few, _mm512_maskz_compress_epi64(member >> 8, later));
            end += few + __builtin_popcount(member >> 8);
        }
        size = end;
        return invalid == 0;
    }
#endif
};

}  // namespace gnnscale
