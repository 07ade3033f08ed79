// Each family of kernels is a translation unit of its own that enters its functions into the table.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

void add_stem_forward(convscope::Kernels& table);
void add_stem_backward(convscope::Kernels& table);
void add_norm_act_pool(convscope::Kernels& table);
void add_dense(convscope::Kernels& table);
void add_step(convscope::Kernels& table);

}  // namespace CONVSCOPE_NAMESPACE
