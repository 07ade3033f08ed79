// Compiled once per instruction set, see CMakeLists.txt.
#include "kernels.h"

#include "chain_passes.h"
#include "dense.h"
#include "first_stage.h"
#include "first_stage_backward.h"
#include "peak.h"
#include "step.h"
#include "vec.h"

namespace convscope {

#define CONVSCOPE_TABLE CONVSCOPE_JOIN(kernels_, CONVSCOPE_VARIANT)
#define CONVSCOPE_TEXT_(text) #text
#define CONVSCOPE_TEXT(text) CONVSCOPE_TEXT_(text)

const Kernels& CONVSCOPE_TABLE() {
  namespace variant = CONVSCOPE_NAMESPACE;
  static const Kernels table{
      CONVSCOPE_TEXT(CONVSCOPE_VARIANT),
      variant::multiply_add_loop,
      variant::first_stage_forward,
      variant::first_stage_backward,
      variant::chain_forward,
      variant::chain_backward,
      variant::dense_forward,
      variant::dense_backward,
      variant::cut_batch,
      variant::cross_entropy,
      variant::descend,
  };
  return table;
}

}  // namespace convscope
