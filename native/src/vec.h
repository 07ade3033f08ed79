// One vector register of the instruction set that this file is compiled for, by the vector extensions of GCC and Clang.
// Only conversions to and from bfloat16 need intrinsics.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Each instruction set has its own namespace, so that the linker cannot merge functions compiled for different ones.
#define CONVSCOPE_JOIN_(a, b) a##b
#define CONVSCOPE_JOIN(a, b) CONVSCOPE_JOIN_(a, b)
#define CONVSCOPE_NAMESPACE CONVSCOPE_JOIN(convscope_, CONVSCOPE_VARIANT)

namespace CONVSCOPE_NAMESPACE {

#if defined(__AVX512F__)
constexpr int kWidth = 16;  // floats per register
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

// aligned(4): loads and stores may be unaligned. may_alias: a register may overlay any array of numbers.
// `auto&` and template arguments drop these attributes: never bind such a reference to a Vec.
typedef float Vec __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));
typedef uint32_t UintVec __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));
typedef uint16_t ShortVec __attribute__((vector_size(2 * kWidth), aligned(2), may_alias));
typedef uint8_t ByteVec __attribute__((vector_size(kWidth), aligned(1), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const Vec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }
inline Vec all(float value) { return value - Vec{}; }  // the compiler may not drop 0 + value, which turns -0 into 0

// bfloat16: the upper 16 bits of a float32, rounded to nearest even; NaN stays NaN.
struct bf16 {
  uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(bf16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

inline Vec load(const bf16* from) {
#if defined(__AVX512F__)  // GCC 12 would widen the register in two steps
  __m256i packed;
  std::memcpy(&packed, from, sizeof packed);
  return (Vec)((UintVec)_mm512_maskz_cvtepu16_epi32(0xffff, packed) << 16);
#else
  const UintVec bits = __builtin_convertvector(*reinterpret_cast<const ShortVec*>(from), UintVec) << 16;
  return (Vec)bits;
#endif
}

inline void store(bf16* to, Vec value) {
#if defined(__AVX512BF16__)
  const __m256bh packed = _mm512_cvtneps_pbh((__m512)value);
  std::memcpy(to, &packed, sizeof packed);  // may be unaligned
#else
  const UintVec bits = (UintVec)value;
  const UintVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const UintVec nan = (UintVec)(value != value);
  *reinterpret_cast<ShortVec*>(to) = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), ShortVec);
#endif
}

inline Vec select(IntVec mask, Vec yes, Vec no) { return (Vec)(((IntVec)yes & mask) | ((IntVec)no & ~mask)); }

}  // namespace CONVSCOPE_NAMESPACE
