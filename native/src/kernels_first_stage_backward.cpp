#include "families.h"

#include "first_stage_backward.h"

void CONVSCOPE_NAMESPACE::add_first_stage_backward(convscope::Kernels& table) {
  table.first_stage_backward = first_stage_backward;
}
