// The kernels in use: those of the best instruction set of this processor, or of the one that use_variant() selected.
#pragma once

#include "kernels.h"

namespace convscope {

extern const Kernels* chosen;

}  // namespace convscope
