// Every family of kernels is compiled by itself, side by side with the others, and puts its functions into the table.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

void add_first_stage_forward(convscope::Kernels& table);
void add_first_stage_backward(convscope::Kernels& table);
void add_chain(convscope::Kernels& table);
void add_dense(convscope::Kernels& table);
void add_step(convscope::Kernels& table);

}  // namespace CONVSCOPE_NAMESPACE
