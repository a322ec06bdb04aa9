// Which of many nodes are members of a map, and where those stand: 64 nodes a word of bits, 16 at a time where the
// processor gathers (AVX-512), one by one elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>

#include "member_map.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define GNNSCALE_WIDE __attribute__((target("avx512f")))
#endif

namespace gnnscale {

// One bit a node, of the first one lowest, in words[0], words[1] and so on; false if any is no node.
template <class Index>
bool mark_members(const MemberMap& members, int64_t num_nodes, const Index* nodes, int64_t count, uint64_t* words) {
    const uint64_t* bits = members.bits();
    bool all_valid = true;
    for (int64_t first = 0; first < count; first += 64) {
        const int64_t size = std::min<int64_t>(count - first, 64);
        uint64_t word = 0;
        for (int64_t i = 0; i < size; ++i) {
            const auto node = static_cast<uint64_t>(nodes[first + i]);
            const bool valid = node < static_cast<uint64_t>(num_nodes);
            all_valid &= valid;
            const uint64_t safe = valid ? node : 0;
            word |= (bits[safe >> 6] >> (safe & 63) & valid) << i;
        }
        words[first / 64] = word;
    }
    return all_valid;
}

// Writes the places of the members that are marked, and their numbers, of which the first node has `start`; gives how
// many there are.
template <class Index, class Id>
int64_t write_members(const MemberMap& members, const Index* nodes, int64_t count, const uint64_t* words,
                      int64_t start, Id* places, int64_t* numbers) {
    int64_t size = 0;
    for (int64_t first = 0; first < count; first += 64)
        for (uint64_t left = words[first / 64]; left; left &= left - 1) {
            const int64_t i = first + __builtin_ctzll(left);
            places[size] = members.place(nodes[i]);
            numbers[size++] = start + i;
        }
    return size;
}

#ifdef GNNSCALE_WIDE

inline bool is_wide() {
    static const bool wide = __builtin_cpu_supports("avx512f");
    return wide;
}

GNNSCALE_WIDE inline bool mark_members_wide(const MemberMap& members, int64_t num_nodes, const int32_t* nodes,
                                            int64_t count, uint64_t* words) {
    const __m512i limit = _mm512_set1_epi32(static_cast<int32_t>(num_nodes)), one = _mm512_set1_epi32(1);
    unsigned invalid = 0;
    for (int64_t first = 0; first < count; first += 64) {
        const int64_t end = std::min<int64_t>(count - first, 64);
        uint64_t word = 0;
        for (int64_t i = 0; i < end; i += 16) {
            const __mmask16 lanes = end - i >= 16 ? 0xFFFF : (1u << (end - i)) - 1;
            const __m512i node = _mm512_maskz_loadu_epi32(lanes, nodes + first + i);
            const __mmask16 valid = _mm512_mask_cmplt_epu32_mask(lanes, node, limit);
            invalid |= valid ^ lanes;
            // Halves of the words of bits, the lower half first as x86 has it.
            const __m512i bits = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), valid,
                                                             _mm512_srli_epi32(node, 5), members.bits(), 4);
            const __m512i bit = _mm512_sllv_epi32(one, _mm512_and_si512(node, _mm512_set1_epi32(31)));
            word |= static_cast<uint64_t>(_mm512_mask_test_epi32_mask(valid, bits, bit)) << i;
        }
        words[first / 64] = word;
    }
    return invalid == 0;
}

GNNSCALE_WIDE inline int64_t write_members_wide(const MemberMap& members, const int32_t* nodes, int64_t count,
                                                const uint64_t* words, int64_t start, int32_t* places,
                                                int64_t* numbers) {
    const __m512i upto7 = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    int64_t size = 0;
    for (int64_t first = 0; first < count; first += 64) {
        uint64_t left = words[first / 64];
        for (int64_t at = first; left; at += 16, left >>= 16) {
            const auto lanes = static_cast<__mmask16>(left);
            if (!lanes) continue;
            const __m512i node = _mm512_maskz_loadu_epi32(lanes, nodes + at);
            const __m512i place =
                _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, node, members.places(), 4);
            const int found = __builtin_popcount(lanes);
            _mm512_mask_storeu_epi32(places + size, (1u << found) - 1, _mm512_maskz_compress_epi32(lanes, place));
            for (int half = 0; half < 2; ++half) {
                const auto eight = static_cast<__mmask8>(lanes >> 8 * half);
                const int some = __builtin_popcount(eight);
                const __m512i number = _mm512_add_epi64(upto7, _mm512_set1_epi64(start + at + 8 * half));
                _mm512_mask_storeu_epi64(numbers + size, (1u << some) - 1, _mm512_maskz_compress_epi64(eight, number));
                size += some;
            }
        }
    }
    return size;
}

inline bool mark_members(const MemberMap& members, int64_t num_nodes, const int32_t* nodes, int64_t count,
                         uint64_t* words) {
    return is_wide() ? mark_members_wide(members, num_nodes, nodes, count, words)
                     : mark_members<int32_t>(members, num_nodes, nodes, count, words);
}

inline int64_t write_members(const MemberMap& members, const int32_t* nodes, int64_t count, const uint64_t* words,
                             int64_t start, int32_t* places, int64_t* numbers) {
    return is_wide() ? write_members_wide(members, nodes, count, words, start, places, numbers)
                     : write_members<int32_t, int32_t>(members, nodes, count, words, start, places, numbers);
}

#endif

}  // namespace gnnscale
