// What stands between two convolutions: [pool] [batch norm] [activation] [pool], at most one pool.
#pragma once

#include <cstdint>

#include "kinds.h"

namespace convscope {

// Maps are (n, h, w, c), float32 or with `half` bf16, statistics float32 (c,). Null where there is nothing.
struct Chain {
  int64_t n, h, w, c;
  int32_t activation, pool, size;  // pool windows are size x size, side by side
  bool pool_first, half;
  bool norm, batch;     // batch: normalize with the statistics of this batch
  const void* x;        // the input; in the backward pass what the norm (else the activation) saw, null if not needed
  void* z;              // (n, oh, ow, c): forward with pool_first, the pooled map; null if nobody wants it
  void* y;              // the output; in the backward pass its gradient
  void* dx;             // the input's gradient
  uint8_t* winner;      // (n, oh, ow, c): the cell of each window that max or min took, 255 for none
  const float *weight, *bias;
  float *mean, *rstd;   // the statistics in use: written by the forward pass, read by the backward pass
  float *running_mean, *running_var;
  float momentum, eps;
  float *dweight, *dbias;
};

}  // namespace convscope
