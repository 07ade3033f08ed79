// Names that kernels, their jobs and their bindings share.
#pragma once

#include <cstdint>

namespace convscope {

enum Activation : int32_t { kNone, kRelu, kGelu, kTanh };
enum Pool : int32_t { kNoPool, kMax, kMin, kAverage };

}  // namespace convscope
