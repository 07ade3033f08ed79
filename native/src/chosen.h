// The kernels in use: those of the best instruction set here, or of the one that use_variant() named.
#pragma once

#include "kernels.h"

namespace convscope {

extern const Kernels* chosen;

}  // namespace convscope
