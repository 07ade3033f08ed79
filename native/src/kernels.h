// The table of kernels that each instruction set fills. module.cpp checks shapes and calls through it.
#pragma once

#include <cstdint>

#include "chain_job.h"
#include "dense_job.h"
#include "first_stage_job.h"

namespace convscope {

struct Kernels {
  const char* name;
  // Multiply-adds in registers alone, on one thread: the number of floating-point operations done.
  int64_t (*multiply_add_loop)(int64_t rounds);
  void (*first_stage_forward)(const FirstStage&);
  void (*first_stage_backward)(const FirstStage&);
  void (*chain_forward)(const Chain&);
  void (*chain_backward)(const Chain&);
  void (*dense_forward)(const DenseForward&);
  void (*dense_backward)(const DenseBackward&);
  void (*cut_batch)(const uint8_t* images, const int64_t* index, const int64_t* moves, const uint8_t* flips,
                    const float* table, int64_t n, int64_t h, int64_t w, int64_t c, float* out);
  double (*cross_entropy)(const float* logits, const int64_t* labels, int64_t n, int64_t classes, float smoothing,
                          float* gradient, int64_t* right);
  void (*descend)(float* weight, const float* gradient, float* velocity, int64_t size, float rate, float momentum,
                  float decay, bool nesterov);
};

const Kernels& kernels_plain();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
const Kernels& kernels_avx512bf16();

}  // namespace convscope
