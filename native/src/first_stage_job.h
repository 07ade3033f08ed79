// The work of the fused first stage.
#pragma once

#include <cstdint>

#include "kinds.h"

namespace convscope {

// Convolution (stride 1), bias, activation and pooling of images with 1 to 4 channels.
struct FirstStage {
  int64_t n, h, w, c, filters, k;
  int64_t top, bottom, left, right;  // zeros around the image
  Activation function;
  Pool kind;
  int64_t size;               // pooling window and stride; 1 without pooling
  bool half;                  // y and dy are bf16, else float32
  const float* x;             // (n, h, w, c)
  const float* weight;        // (filters, c, k, k) at weight_strides
  int64_t weight_strides[4];
  const float* bias;          // (filters,) or null
  void* y;                    // (n, oh, ow, filters); backward reads it only where the activation's slope needs it
  uint8_t* winner;            // like y, for max and min: which cell of the window, or kNoWinner
  const void* dy = nullptr;   // like y, and from here on for backward only
  float* dweight = nullptr;   // (filters, c, k, k) at dweight_strides
  int64_t dweight_strides[4]{};
  float* dbias = nullptr;     // (filters,) or null

  static constexpr uint8_t kNoWinner = 255;  // ReLU let nothing through
  int64_t oh() const { return (h + top + bottom - k + 1) / size; }
  int64_t ow() const { return (w + left + right - k + 1) / size; }
  bool has_winner() const { return kind == kMax || kind == kMin; }
  // Whether backward convolves again, for a slope that neither y nor winner tells.
  bool recomputes() const {
    return function == kGelu || (kind == kAverage && function != kNone);
  }
  // Whether backward reads y for the slope.
  bool reads_output() const {
    return !recomputes() && (function == kTanh || (function == kRelu && kind == kNoPool));
  }
};

}  // namespace convscope
