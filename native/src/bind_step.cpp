// A training step for Python. Tensors arrive as addresses, checked by convscope/backends/native/step.py; the arrays of
// a data set may come from users, so their shapes and indices are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include <optional>
#include <utility>

#include "bind_job.h"
#include "step_job.h"

CONVSCOPE_KERNEL(void, gather_batch, const convscope::GatherBatch&)
CONVSCOPE_KERNEL(convscope::CrossEntropySums, cross_entropy, const convscope::CrossEntropy&)
CONVSCOPE_KERNEL(void, sgd_step, const convscope::SgdStep&)

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

template <class T, class... Rest>
using Array = nb::ndarray<T, Rest..., nb::c_contig, nb::device::cpu>;

void gather_batch_of(Array<const uint8_t, nb::ndim<4>> images, Array<const int64_t, nb::ndim<1>> index,
                     Array<const float, nb::ndim<2>> table, std::optional<Array<const int64_t, nb::ndim<2>>> shifts,
                     std::optional<Array<const uint8_t, nb::ndim<1>>> flips, Array<float, nb::ndim<4>> out) {
  const auto n = index.shape(0), h = images.shape(1), w = images.shape(2), c = images.shape(3);
  expect(out.shape(0) == n && out.shape(1) == h && out.shape(2) == w && out.shape(3) == c, "expected out (n, h, w, c)");
  expect(table.shape(0) == 256 && table.shape(1) == c, "expected table (256, c)");
  expect(!shifts || (shifts->shape(0) == n && shifts->shape(1) == 2), "expected shifts (n, 2)");
  expect(!flips || flips->shape(0) == n, "expected flips (n,)");
  for (size_t i = 0; i < n; ++i)
    expect(index(i) >= 0 && index(i) < int64_t(images.shape(0)), "index out of range of the images");
  GatherBatch job{};
  job.n = int64_t(n), job.h = int64_t(h), job.w = int64_t(w), job.c = int64_t(c);
  job.images = images.data(), job.index = index.data(), job.table = table.data(), job.out = out.data();
  job.shifts = shifts ? shifts->data() : nullptr;
  job.flips = flips ? flips->data() : nullptr;
  nb::gil_scoped_release released;
  gather_batch[variant](job);
}

std::pair<double, int64_t> cross_entropy_of(uintptr_t logits, uintptr_t labels, int64_t n, int64_t classes,
                                            float smoothing, uintptr_t gradient) {
  CrossEntropy job{};
  job.n = n, job.classes = classes, job.smoothing = smoothing;
  job.logits = at<const float>(logits), job.labels = at<const int64_t>(labels), job.gradient = at<float>(gradient);
  for (int64_t i = 0; i < n; ++i)
    expect(job.labels[i] >= 0 && job.labels[i] < classes, "label out of range of the classes");
  nb::gil_scoped_release released;
  const CrossEntropySums sums = cross_entropy[variant](job);
  return {sums.loss / double(n), sums.correct};
}

void check(const SgdStep& job) {
  expect(job.size >= 0, "expected a size of at least 0");
  expect(!job.size || (job.weight && job.gradient && job.velocity),
         "expected addresses of weight, gradient and velocity");
}

}  // namespace

void bind_step(nb::module_& m) {
  m.def("gather_batch", &gather_batch_of, "images"_a, "index"_a, "table"_a, "shifts"_a.none(), "flips"_a.none(),
        "out"_a);
  m.def("cross_entropy", &cross_entropy_of, "logits"_a, "labels"_a, "n"_a, "classes"_a, "smoothing"_a, "gradient"_a);
  nb::class_<SgdStep> job(m, "SgdStep");
  job.def(nb::init<>());
  job.def_rw("size", &SgdStep::size).def_rw("lr", &SgdStep::lr).def_rw("momentum", &SgdStep::momentum);
  job.def_rw("weight_decay", &SgdStep::weight_decay).def_rw("nesterov", &SgdStep::nesterov);
  bind_address<&SgdStep::weight>(job, "weight");
  bind_address<&SgdStep::gradient>(job, "gradient");
  bind_address<&SgdStep::velocity>(job, "velocity");
  bind_kernel(m, "sgd_step", sgd_step, check);
}

}  // namespace convscope
