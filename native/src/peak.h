// The peak of the processor: multiply-adds of registers, without memory access.
#pragma once

#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

inline int64_t multiply_add_loop(int64_t rounds) {
  constexpr int kChains = 12;  // independent sums, enough to hide the latency of a multiply-add
  Vec sums[kChains];
  for (int chain = 0; chain < kChains; ++chain) sums[chain] = all(float(chain));
  Vec factor = all(0.999f), term = all(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+m"(factor), "+m"(term));
    const Vec f = factor, t = term;
    for (int repeat = 0; repeat < 64; ++repeat)
#pragma GCC unroll 12
      for (int chain = 0; chain < kChains; ++chain) sums[chain] = sums[chain] * f + t;
  }
  asm volatile("" : : "m"(sums));
  return rounds * 64 * kChains * kWidth * 2;
}

}  // namespace CONVSCOPE_NAMESPACE
