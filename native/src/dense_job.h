// The work of the fully connected layer.
#pragma once

#include <cstdint>

namespace convscope {

// y (n, units) = x (n, inputs) times weight (units, inputs) transposed + bias (units). half: products of bf16 numbers.
struct DenseForward {
  const void* x;
  const float *weight, *bias;
  float* y;
  int64_t n, inputs, units;
  bool x_is_bf16, relu, half;
};

// y is the layer's output if it had a ReLU, else null. dx has the type of x. dx, dweight and dbias may be null.
struct DenseBackward {
  const void* x;
  const float *weight, *y, *dy;
  void* dx;
  float *dweight, *dbias;
  int64_t n, inputs, units;
  bool x_is_bf16, half;
};

}  // namespace convscope
