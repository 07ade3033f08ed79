#include "families.h"
#include "peak.h"
#include "step.h"

void CONVSCOPE_NAMESPACE::add_step(convscope::Kernels& table) {
  table.multiply_add_loop = multiply_add_loop;
  table.gather_batch = gather_batch;
  table.cross_entropy = cross_entropy;
  table.sgd_step = sgd_step;
}
