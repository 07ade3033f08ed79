#include "families.h"

#include "chain_passes.h"

void CONVSCOPE_NAMESPACE::add_chain(convscope::Kernels& table) {
  table.chain_forward = chain_forward;
  table.chain_backward = chain_backward;
}
