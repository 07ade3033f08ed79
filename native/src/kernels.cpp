// The table of one instruction set; like all kernels_*.cpp compiled once for each, see CMakeLists.txt.
#include "families.h"

namespace convscope {

#define CONVSCOPE_TABLE CONVSCOPE_JOIN(kernels_, CONVSCOPE_VARIANT)
#define CONVSCOPE_TEXT_(text) #text
#define CONVSCOPE_TEXT(text) CONVSCOPE_TEXT_(text)

const Kernels& CONVSCOPE_TABLE() {
  static const Kernels table = [] {
    Kernels made{};
    made.name = CONVSCOPE_TEXT(CONVSCOPE_VARIANT);
    CONVSCOPE_NAMESPACE::add_first_stage_forward(made);
    CONVSCOPE_NAMESPACE::add_first_stage_backward(made);
    CONVSCOPE_NAMESPACE::add_chain(made);
    CONVSCOPE_NAMESPACE::add_dense(made);
    CONVSCOPE_NAMESPACE::add_step(made);
    return made;
  }();
  return table;
}

}  // namespace convscope
