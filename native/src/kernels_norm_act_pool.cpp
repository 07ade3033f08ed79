#include "families.h"
#include "norm_act_pool_passes.h"

void CONVSCOPE_NAMESPACE::add_norm_act_pool(convscope::Kernels& table) {
  table.norm_act_pool_forward = norm_act_pool_forward;
  table.norm_act_pool_backward = norm_act_pool_backward;
}
