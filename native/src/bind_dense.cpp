// The dense layer for Python. Tensors come as addresses, their shapes, types and layouts checked by
// convscope/kernels/dense.py: to become an ndarray takes a tensor longer than a small layer takes.
#include <nanobind/nanobind.h>

#include "address.h"
#include "chosen.h"
#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {

void bind_dense(nb::module_& m) {
  m.def(
      "dense_forward",
      [](uintptr_t x, bool x_is_bf16, uintptr_t weight, uintptr_t bias, uintptr_t y, int64_t n, int64_t inputs,
         int64_t units, bool relu, bool half) {
        chosen->dense_forward({at<const void>(x), at<const float>(weight), at<const float>(bias),
                               at<float>(y), n, inputs, units, x_is_bf16, relu, half});
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "dense_backward",
      [](uintptr_t x, bool x_is_bf16, uintptr_t weight, uintptr_t y, uintptr_t dy, uintptr_t dx, uintptr_t dweight,
         uintptr_t dbias, int64_t n, int64_t inputs, int64_t units, bool half) {
        chosen->dense_backward({at<const void>(x), at<const float>(weight), at<const float>(y),
                                at<const float>(dy), at<void>(dx), at<float>(dweight),
                                at<float>(dbias), n, inputs, units, x_is_bf16, half});
      },
      nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace convscope
