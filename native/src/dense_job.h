// The job of the fully connected layer.
#pragma once

#include <cstdint>

namespace convscope {

// y (n, units) = x (n, inputs) times weight (units, inputs) transposed + bias (units,), then ReLU.
struct Dense {
  int64_t n, inputs, units;
  bool relu;
  bool bf16;       // round the operands of products to bfloat16; sums stay float32
  bool x_is_bf16;  // x and dx are bfloat16, else float32
  const void* x;
  const float* weight;
  const float* bias;  // forward only
  float* y;           // written by forward; backward reads it with ReLU only
  const float* dy;    // from here on backward only
  void* dx;           // dx, dweight and dbias may be null
  float* dweight;
  float* dbias;
};

}  // namespace convscope
