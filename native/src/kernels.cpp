// The table of one instruction set. This and every kernels_*.cpp is compiled once per set, see CMakeLists.txt.
#include "families.h"

namespace convscope {

#define CONVSCOPE_TABLE CONVSCOPE_JOIN(kernels_, CONVSCOPE_VARIANT)
#define CONVSCOPE_TEXT_(text) #text
#define CONVSCOPE_TEXT(text) CONVSCOPE_TEXT_(text)

const Kernels& CONVSCOPE_TABLE() {
  static const Kernels table = [] {
    Kernels kernels{};
    kernels.name = CONVSCOPE_TEXT(CONVSCOPE_VARIANT);
    CONVSCOPE_NAMESPACE::add_stem_forward(kernels);
    CONVSCOPE_NAMESPACE::add_stem_backward(kernels);
    CONVSCOPE_NAMESPACE::add_norm_act_pool(kernels);
    CONVSCOPE_NAMESPACE::add_dense(kernels);
    CONVSCOPE_NAMESPACE::add_step(kernels);
    return kernels;
  }();
  return table;
}

}  // namespace convscope
