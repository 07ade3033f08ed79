// The pools that the kernels fuse. Windows do not overlap: the stride is the size.
#pragma once

#include <cstdint>

namespace convscope {

enum Pool : int32_t { kNoPool, kMax, kMin, kAverage, kPoolCount };
constexpr const char* kPoolNames[kPoolCount] = {"none", "max", "min", "average"};

constexpr bool has_argmax(Pool pool) { return pool == kMax || pool == kMin; }

// In place of the index of a cell in its window: ReLU closed, so no cell gets a gradient.
constexpr uint8_t kNoArgmax = 255;

}  // namespace convscope
