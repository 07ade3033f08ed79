// The first stage for Python. Tensors come as addresses, their shapes, types and layouts checked by
// convscope/kernels/first_stage.py: to become ndarrays took the tensors of one call 8 to 10 microseconds.
#include <nanobind/nanobind.h>

#include "address.h"
#include "chosen.h"
#include "kernels.h"

namespace nb = nanobind;

namespace convscope {
namespace {

void expect(int64_t n, int64_t h, int64_t w, int64_t c, int64_t filters, int64_t k, int32_t function, int32_t kind,
            int64_t size) {
  if (n < 1 || h < 1 || w < 1 || c < 1 || c > 4 || filters < 1 || k < 1) throw nb::value_error("no such images or filters");
  if (function < kNone || function > kTanh || kind < kNoPool || kind > kAverage) throw nb::value_error("no such function");
  if (size < 1 || size > 4) throw nb::value_error("a pool's windows must be 1 to 4 wide");
}

void forward(int64_t n, int64_t h, int64_t w, int64_t c, int64_t filters, int64_t k, int64_t top, int64_t bottom,
             int64_t left, int64_t right, int32_t function, int32_t kind, int64_t size, bool half, uintptr_t x,
             uintptr_t weight, int64_t stride0, int64_t stride1, int64_t stride2, int64_t stride3, uintptr_t bias,
             uintptr_t y, uintptr_t winner) {
  expect(n, h, w, c, filters, k, function, kind, size);
  nb::gil_scoped_release released;
  chosen->first_stage_forward({n, h, w, c, filters, k, top, bottom, left, right, Activation(function), Pool(kind),
                               size, half, at<float>(x), at<float>(weight), {stride0, stride1, stride2, stride3},
                               at<float>(bias), at<void>(y), at<uint8_t>(winner)});
}

void backward(int64_t n, int64_t h, int64_t w, int64_t c, int64_t filters, int64_t k, int64_t top, int64_t bottom,
              int64_t left, int64_t right, int32_t function, int32_t kind, int64_t size, bool half, uintptr_t x,
              uintptr_t weight, int64_t stride0, int64_t stride1, int64_t stride2, int64_t stride3, uintptr_t bias,
              uintptr_t y, uintptr_t winner, uintptr_t dy, uintptr_t dweight, int64_t dstride0, int64_t dstride1,
              int64_t dstride2, int64_t dstride3, uintptr_t dbias) {
  expect(n, h, w, c, filters, k, function, kind, size);
  nb::gil_scoped_release released;
  chosen->first_stage_backward({n, h, w, c, filters, k, top, bottom, left, right, Activation(function), Pool(kind),
                                size, half, at<float>(x), at<float>(weight), {stride0, stride1, stride2, stride3},
                                at<float>(bias), at<void>(y), at<uint8_t>(winner), at<void>(dy), at<float>(dweight),
                                {dstride0, dstride1, dstride2, dstride3}, at<float>(dbias)});
}

}  // namespace

void bind_first_stage(nb::module_& m) {
  m.def("first_stage_forward", &forward);
  m.def("first_stage_backward", &backward);
}

}  // namespace convscope
