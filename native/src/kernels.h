// The table of kernels, filled once per instruction set. The bindings check the jobs; the kernels trust them.
#pragma once

#include <cstdint>

#include "dense_job.h"
#include "norm_act_pool_job.h"
#include "stem_job.h"
#include "step_job.h"

namespace convscope {

struct Kernels {
  const char* name;
  int64_t (*multiply_add_loop)(int64_t rounds);  // on one thread; returns the number of floating-point operations
  void (*conv_act_pool_forward)(const ConvActPool&);
  void (*conv_act_pool_backward)(const ConvActPool&);
  void (*norm_act_pool_forward)(const NormActPool&);
  void (*norm_act_pool_backward)(const NormActPool&);
  void (*dense_forward)(const Dense&);
  void (*dense_backward)(const Dense&);
  void (*gather_batch)(const GatherBatch&);
  CrossEntropySums (*cross_entropy)(const CrossEntropy&);
  void (*sgd_step)(const SgdStep&);
};

const Kernels& kernels_plain();
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
const Kernels& kernels_avx512bf16();

}  // namespace convscope
