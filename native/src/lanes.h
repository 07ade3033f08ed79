// Loads and stores of the first lanes of a register.
#pragma once

#include <algorithm>
#include <cstring>

#include "vec.h"

#if defined(__AVX2__)
#include <immintrin.h>  // lane masks, which GCC 12 does not generate
#endif

namespace CONVSCOPE_NAMESPACE {

// The first `lanes` numbers of a register; a load sets the others to 0.
template <class Number>
inline void store_lanes(Number* to, Vec value, int lanes) {
  if (lanes == kWidth) return store(to, value);
#if defined(__AVX512F__)
  const __mmask16 mask = (1u << lanes) - 1;
  if constexpr (sizeof(Number) == 4) {
    _mm512_mask_storeu_ps(to, mask, (__m512)value);
  } else {
    Number part[kWidth];
    store(part, value);
    __m256i bits;
    std::memcpy(&bits, part, sizeof bits);
    _mm256_mask_storeu_epi16(to, mask, bits);
  }
#else
  Number part[kWidth];
  store(part, value);
  std::copy_n(part, lanes, to);
#endif
}

template <class Number>
inline Vec load_lanes(const Number* from, int lanes) {
  if (lanes == kWidth) return load(from);
#if defined(__AVX512F__)
  const __mmask16 mask = (1u << lanes) - 1;
  if constexpr (sizeof(Number) == 4) {
    return (Vec)_mm512_maskz_loadu_ps(mask, from);
  } else {
    const UintVec bits = (UintVec)_mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, from)) << 16;
    return (Vec)bits;
  }
#else
  Number part[kWidth] = {};
  std::copy_n(from, lanes, part);
  return load(part);
#endif
}

inline void store_bytes(uint8_t* to, IntVec value, int lanes) {
#if defined(__AVX512F__)
  _mm512_mask_cvtepi32_storeu_epi8(to, (__mmask16)((1u << lanes) - 1), (__m512i)value);
#else
  uint8_t part[kWidth];
  *reinterpret_cast<ByteVec*>(part) = __builtin_convertvector(value, ByteVec);
  if (lanes == kWidth)
    std::memcpy(to, part, kWidth);
  else
    std::copy_n(part, lanes, to);
#endif
}

inline IntVec load_bytes(const uint8_t* from, int lanes) {
  uint8_t part[kWidth] = {};
  if (lanes == kWidth) return __builtin_convertvector(*reinterpret_cast<const ByteVec*>(from), IntVec);
  std::copy_n(from, lanes, part);
  return __builtin_convertvector(*reinterpret_cast<const ByteVec*>(part), IntVec);
}

}  // namespace CONVSCOPE_NAMESPACE
