// The job of norm_act_pool: [pool] [batch norm] [activation] [pool], with one pool at most.
#pragma once

#include <cstdint>

#include "activation.h"
#include "pool.h"

namespace convscope {

// Feature maps are (n, h, w, c), statistics float32 (c,). Pointers are null for parts that are missing or not needed.
struct NormActPool {
  static constexpr int64_t kMaxPoolSize = 15;  // 15 x 15 cells: an argmax fits a byte

  int64_t n, h, w, c;
  Activation activation;
  Pool pool;
  int64_t pool_size;
  bool pool_first;
  bool bf16;  // feature maps are bfloat16, else float32
  bool norm;
  bool batch_statistics;  // normalize with the statistics of this batch
  float momentum, eps;
  const void* x;  // the input; in backward the input of the norm, or of the activation if there is no norm
  void* pooled;   // (n, oh, ow, c): written by forward if pool_first
  void* y;
  uint8_t* argmax;  // (n, oh, ow, c): the index of the cell that max or min selected in its window, or kNoArgmax
  const float *weight, *bias;
  float* statistics;  // (2, c): mean and 1 / standard deviation in use; written by forward, read by backward
  float *running_mean, *running_var;
  const void* dy;  // from here on backward only
  void* dx;
  float *dweight, *dbias;

  float* mean() const { return statistics; }
  float* rstd() const { return statistics + c; }
  // The name of the map that backward takes as x, "" for none: the input of the norm, else of the activation. Without a
  // norm the argmax may be enough, and the slope of ReLU follows from y, which the next layer saves anyway.
  const char* saved_for_backward() const {
    const bool activated = activation != kNone;
    if (pool != kNoPool && pool_first) return norm || activated ? "pooled" : "";
    if (norm) return "x";
    if (pool != kNoPool) return activated && !(activation == kRelu && has_argmax(pool)) ? "x" : "";
    return activation == kRelu ? "y" : "x";
  }
};

}  // namespace convscope
