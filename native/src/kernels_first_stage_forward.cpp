#include "families.h"

#include "first_stage.h"

void CONVSCOPE_NAMESPACE::add_first_stage_forward(convscope::Kernels& table) {
  table.first_stage_forward = first_stage_forward;
}
