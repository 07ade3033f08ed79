// The peak of the processor: multiply-adds of registers, without memory access.
#include <cstdint>

#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

// Runs on one thread; returns the number of floating-point operations.
int64_t multiply_add_loop(int64_t rounds) {
  constexpr int kSums = 12;  // independent sums, enough to hide the latency of a multiply-add
  Vec sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = all(float(i));
  Vec factor = all(0.999f), term = all(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+m"(factor), "+m"(term));
    const Vec f = factor, t = term;
    for (int repeat = 0; repeat < 64; ++repeat)
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * f + t;
  }
  asm volatile("" : : "m"(sums));
  return rounds * 64 * kSums * kWidth * 2;
}

}  // namespace CONVSCOPE_NAMESPACE
