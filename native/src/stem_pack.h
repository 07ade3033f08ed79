// The layout of the stem's operands: padded images, and filters packed into blocks of registers.
#pragma once

#include <algorithm>

#include "scratch.h"
#include "stem_job.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::ConvActPool;

// An image with its zero padding, in rows of `row` floats.
struct Padded {
  const float* pixels;
  int64_t row;
};

// The image itself if there is no padding, else a copy that is valid until the thread's next call.
inline Padded pad(const ConvActPool& job, int64_t image) {
  const float* from = job.x + image * job.h * job.w * job.c;
  if (job.top + job.bottom + job.left + job.right == 0) return {from, job.w * job.c};
  const int64_t row = (job.left + job.w + job.right) * job.c, rows = job.top + job.h + job.bottom;
  static thread_local Scratch memory;
  float* const buffer = memory.get(rows * row);
  float* to = buffer;
  to = std::fill_n(to, job.top * row, 0.0f);
  for (int64_t y = 0; y < job.h; ++y) {
    to = std::fill_n(to, job.left * job.c, 0.0f);
    to = std::copy_n(from + y * job.w * job.c, job.w * job.c, to);
    to = std::fill_n(to, job.right * job.c, 0.0f);
  }
  std::fill_n(to, job.bottom * row, 0.0f);
  return {buffer, row};
}

// Filters in blocks of up to `max_registers` registers. A block is (1 + kernel_size^2 * c, registers * kWidth); its row
// 0 is the bias. The block that starts at register `first` starts at float first * kWidth * rows, independent of the
// sizes of the blocks before it.
struct Blocks {
  int64_t registers, rows;
  int max_registers;

  Blocks(const ConvActPool& job, int max_registers_)
      : registers((job.filters + kWidth - 1) / kWidth),
        rows(1 + job.kernel_size * job.kernel_size * job.c),
        max_registers(max_registers_) {}
  int64_t floats() const { return registers * kWidth * rows; }
  int64_t offset(int64_t first) const { return first * kWidth * rows; }
  int size(int64_t first) const {
    const int64_t rest = registers - first;
    return rest >= max_registers ? max_registers : rest >= 2 ? 2 : 1;
  }
  // Calls body(filter, tap, index in the packed blocks) for every number; tap -1 is the bias.
  template <class Body>
  void each(const ConvActPool& job, Body&& body) const {
    for (int64_t first = 0; first < registers; first += size(first))
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t lane = 0; lane < size(first) * kWidth; ++lane)
          if (const int64_t filter = first * kWidth + lane; filter < job.filters)
            body(filter, row - 1, offset(first) + row * size(first) * kWidth + lane);
  }
};

// The offset of one weight; a tap is (y * kernel_size + x) * c + channel.
inline int64_t weight_offset(const ConvActPool& job, const int64_t (&strides)[4], int64_t filter, int64_t tap) {
  const int64_t channel = tap % job.c, x = tap / job.c % job.kernel_size, y = tap / job.c / job.kernel_size;
  return filter * strides[0] + channel * strides[1] + y * strides[2] + x * strides[3];
}

inline void pack(const ConvActPool& job, const Blocks& blocks, float* packed) {
  std::fill_n(packed, blocks.floats(), 0.0f);
  blocks.each(job, [&](int64_t filter, int64_t tap, int64_t index) {
    if (tap >= 0)
      packed[index] = job.weight[weight_offset(job, job.weight_strides, filter, tap)];
    else if (job.bias)
      packed[index] = job.bias[filter];
  });
}

}  // namespace CONVSCOPE_NAMESPACE
