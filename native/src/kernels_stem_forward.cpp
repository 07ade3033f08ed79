#include "families.h"
#include "stem_forward.h"

void CONVSCOPE_NAMESPACE::add_stem_forward(convscope::Kernels& table) {
  table.conv_act_pool_forward = conv_act_pool_forward;
}
