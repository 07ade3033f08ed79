// Loads and stores of one register of channels.
#pragma once

#include <algorithm>
#include <cstring>

#include "scratch.h"
#include "vec.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace CONVSCOPE_NAMESPACE {

// kWidth channels at a time. The last register starts earlier if it would exceed the channels, and repeats some.
struct FullRegister {
  template <class T>
  Vec get(const T* from) const {
    return load(from);
  }
  template <class T>
  void put(T* to, Vec value) const {
    store(to, value);
  }
  IntVec get_bytes(const uint8_t* from) const {
#if defined(__AVX512F__)  // GCC 12 would widen each byte separately
    __m128i bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return (IntVec)_mm512_maskz_cvtepu8_epi32(0xffff, bytes);
#elif defined(__AVX2__)
    return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
    return __builtin_convertvector(*reinterpret_cast<const ByteVec*>(from), IntVec);
#endif
  }
  void put_bytes(uint8_t* to, IntVec value) const {
    *reinterpret_cast<ByteVec*>(to) = __builtin_convertvector(value, ByteVec);
  }
};

// Fewer channels than a register holds.
struct PartialRegister {
  int64_t count;
  template <class T>
  Vec get(const T* from) const {
    T part[kWidth]{};
    for (int64_t i = 0; i < count; ++i) part[i] = from[i];
    return load(part);
  }
  template <class T>
  void put(T* to, Vec value) const {
    T part[kWidth];
    store(part, value);
    for (int64_t i = 0; i < count; ++i) to[i] = part[i];
  }
  IntVec get_bytes(const uint8_t* from) const {
    IntVec value{};
    for (int64_t i = 0; i < count; ++i) value[i] = from[i];
    return value;
  }
  void put_bytes(uint8_t* to, IntVec value) const {
    for (int64_t i = 0; i < count; ++i) to[i] = uint8_t(value[i]);
  }
};

// Calls work(lanes, index of the register, first channel).
template <class Work>
inline void over_channels(int64_t c, Work&& work) {
  if (c < kWidth) return work(PartialRegister{c}, 0, 0);
  for (int64_t index = 0; index * kWidth < c; ++index)
    work(FullRegister{}, index, std::min(index * kWidth, c - kWidth));
}

inline int64_t padded_channels(int64_t c) { return (c + kWidth - 1) / kWidth * kWidth; }

// One buffer per thread and use.
enum class Use { kSums, kResidual, kTable, kParts, kPooled };
template <Use>
inline float* scratch(int64_t floats) {
  static thread_local Scratch memory;
  return memory.get(floats);
}

}  // namespace CONVSCOPE_NAMESPACE
