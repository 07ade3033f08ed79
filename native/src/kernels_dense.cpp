#include "dense.h"
#include "families.h"

void CONVSCOPE_NAMESPACE::add_dense(convscope::Kernels& table) {
  table.dense_forward = dense_forward;
  table.dense_backward = dense_backward;
}
