// The job of the stem.
#pragma once

#include <cstdint>

#include "activation.h"
#include "pool.h"

namespace convscope {

// Convolution (stride 1), bias, activation and pooling of images with few channels.
struct ConvActPool {
  static constexpr int64_t kMaxChannels = 4, kMaxPoolSize = 4;

  int64_t n, h, w, c, filters, kernel_size;
  int64_t top, bottom, left, right;  // zero padding
  Activation activation;
  Pool pool;
  int64_t pool_size;    // window and stride; 1 without a pool
  bool bf16;            // y and dy are bfloat16, else float32
  const float* x;       // (n, h, w, c)
  const float* weight;  // (filters, c, kernel_size, kernel_size) with weight_strides
  int64_t weight_strides[4];
  const float* bias;  // (filters,) or null
  void* y;            // (n, oh, ow, filters); backward reads it if reads_output()
  uint8_t* argmax;    // like y, for max and min: the index of the cell in its window, or kNoArgmax; may be null
  const void* dy;     // like y; from here on backward only
  float* dweight;     // (filters, c, kernel_size, kernel_size) with dweight_strides
  int64_t dweight_strides[4];
  float* dbias;  // (filters,) or null

  int64_t oh() const { return (h + top + bottom - kernel_size + 1) / pool_size; }
  int64_t ow() const { return (w + left + right - kernel_size + 1) / pool_size; }
  // Whether backward convolves again, because neither y nor argmax determines the activation's slope.
  bool recomputes() const { return !is_monotone(activation) || (pool == kAverage && activation != kNone); }
  // Whether backward reads the slope from y. With ReLU and a max or min pool argmax is enough.
  bool reads_output() const {
    return !recomputes() && activation != kNone && !(activation == kRelu && has_argmax(pool));
  }
};

}  // namespace convscope
