#include "families.h"
#include "stem_backward.h"

void CONVSCOPE_NAMESPACE::add_stem_backward(convscope::Kernels& table) {
  table.conv_act_pool_backward = conv_act_pool_backward;
}
