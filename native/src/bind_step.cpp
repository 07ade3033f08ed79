// A training step for Python. Tensors come as addresses, as those of the dense layer do; of a data set's arrays, which
// come from outside, shapes and places are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include <optional>
#include <utility>

#include "address.h"
#include "chosen.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

template <class T, class... Rest>
using Array = nb::ndarray<T, Rest..., nb::c_contig, nb::device::cpu>;

void expect(bool holds, const char* what) {
  if (!holds) throw nb::value_error(what);
}

void cut_batch(Array<const uint8_t, nb::ndim<4>> images, Array<const int64_t, nb::ndim<1>> index,
               std::optional<Array<const int64_t, nb::ndim<2>>> moves,
               std::optional<Array<const uint8_t, nb::ndim<1>>> flips, Array<const float, nb::ndim<2>> table,
               Array<float, nb::ndim<4>> out) {
  const auto n = int64_t(index.shape(0)), h = int64_t(images.shape(1)), w = int64_t(images.shape(2)),
             c = int64_t(images.shape(3));
  expect(out.shape(0) == size_t(n) && out.shape(1) == size_t(h) && out.shape(2) == size_t(w) && out.shape(3) == size_t(c),
         "out must be (n, h, w, c)");
  expect(table.shape(0) == 256 && table.shape(1) == size_t(c), "table must be (256, c)");
  expect(!moves || (moves->shape(0) == size_t(n) && moves->shape(1) == 2), "moves must be (n, 2)");
  expect(!flips || flips->shape(0) == size_t(n), "flips must be (n,)");
  for (int64_t i = 0; i < n; ++i) expect(index(i) >= 0 && index(i) < int64_t(images.shape(0)), "index out of range");
  nb::gil_scoped_release released;
  chosen->cut_batch(images.data(), index.data(), moves ? moves->data() : nullptr,
                    flips ? flips->data() : nullptr, table.data(), n, h, w, c, out.data());
}

std::pair<double, int64_t> cross_entropy(uintptr_t logits, uintptr_t labels, int64_t n, int64_t classes, float smoothing,
                                         uintptr_t gradient) {
  const auto* label = at<const int64_t>(labels);
  for (int64_t i = 0; i < n; ++i) expect(label[i] >= 0 && label[i] < classes, "label out of range");
  nb::gil_scoped_release released;
  int64_t right;
  const double total = chosen->cross_entropy(at<const float>(logits), label, n, classes, smoothing,
                                             at<float>(gradient), &right);
  return {total / double(n), right};
}

void descend(uintptr_t weight, uintptr_t gradient, uintptr_t velocity, int64_t size, float rate, float momentum,
             float decay, bool nesterov) {
  nb::gil_scoped_release released;
  chosen->descend(at<float>(weight), at<const float>(gradient), at<float>(velocity), size, rate, momentum,
                  decay, nesterov);
}

}  // namespace

void bind_step(nb::module_& m) {
  m.def("cut_batch", &cut_batch, "images"_a, "index"_a, "moves"_a.none(), "flips"_a.none(), "table"_a, "out"_a);
  m.def("cross_entropy", &cross_entropy);
  m.def("descend", &descend);
}

}  // namespace convscope
