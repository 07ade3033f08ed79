// The stem for Python. convscope/backends/native/stem.py checks types and layouts of the tensors and passes addresses:
// to convert the tensors of one call to ndarrays takes 8 to 10 microseconds.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <array>

#include "bind_job.h"
#include "stem_job.h"

CONVSCOPE_KERNEL(void, conv_act_pool_forward, const convscope::ConvActPool&)
CONVSCOPE_KERNEL(void, conv_act_pool_backward, const convscope::ConvActPool&)

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

using Strides = std::array<int64_t, 4>;

template <auto kMember>
void bind_strides(nb::class_<ConvActPool>& job, const char* name) {
  job.def_prop_rw(
      name,
      [](const ConvActPool& self) {
        return Strides{(self.*kMember)[0], (self.*kMember)[1], (self.*kMember)[2], (self.*kMember)[3]};
      },
      [](ConvActPool& self, const Strides& strides) { std::copy(strides.begin(), strides.end(), self.*kMember); });
}

void check(const ConvActPool& job) {
  expect(job.n > 0 && job.h > 0 && job.w > 0, "expected images of at least one pixel");
  expect(job.c > 0 && job.c <= ConvActPool::kMaxChannels, "expected 1 to 4 channels");
  expect(job.filters > 0 && job.kernel_size > 0, "expected at least one filter of at least one pixel");
  expect(job.top >= 0 && job.bottom >= 0 && job.left >= 0 && job.right >= 0, "expected padding of at least 0");
  expect(job.activation >= 0 && job.activation < kActivationCount, "unknown activation");
  expect(job.pool >= 0 && job.pool < kPoolCount, "unknown pool");
  expect(job.pool_size > 0 && job.pool_size <= ConvActPool::kMaxPoolSize, "expected a pool size of 1 to 4");
  expect(job.oh() > 0 && job.ow() > 0, "expected images that hold one pooling window of the convolution");
  expect(job.x && job.weight, "expected addresses of x and weight");
}

void check_forward(const ConvActPool& job) {
  check(job);
  expect(job.y, "expected the address of y");
}

void check_backward(const ConvActPool& job) {
  check(job);
  expect(job.dy && job.dweight, "expected addresses of dy and dweight");
  expect(job.argmax || !has_argmax(job.pool), "expected the address of argmax");
  expect(job.y || !job.reads_output(), "expected the address of y");
}

}  // namespace

void bind_stem(nb::module_& m) {
  m.attr("STEM_MAX_CHANNELS") = ConvActPool::kMaxChannels;
  m.attr("STEM_MAX_POOL_SIZE") = ConvActPool::kMaxPoolSize;
  nb::class_<ConvActPool> job(m, "ConvActPool");
  job.def(nb::init<>());
  job.def_rw("n", &ConvActPool::n).def_rw("h", &ConvActPool::h).def_rw("w", &ConvActPool::w);
  job.def_rw("c", &ConvActPool::c).def_rw("filters", &ConvActPool::filters);
  job.def_rw("kernel_size", &ConvActPool::kernel_size);
  job.def_rw("top", &ConvActPool::top).def_rw("bottom", &ConvActPool::bottom);
  job.def_rw("left", &ConvActPool::left).def_rw("right", &ConvActPool::right);
  bind_enum<&ConvActPool::activation>(job, "activation");
  bind_enum<&ConvActPool::pool>(job, "pool");
  job.def_rw("pool_size", &ConvActPool::pool_size).def_rw("bf16", &ConvActPool::bf16);
  bind_strides<&ConvActPool::weight_strides>(job, "weight_strides");
  bind_strides<&ConvActPool::dweight_strides>(job, "dweight_strides");
  bind_address<&ConvActPool::x>(job, "x");
  bind_address<&ConvActPool::weight>(job, "weight");
  bind_address<&ConvActPool::bias>(job, "bias");
  bind_address<&ConvActPool::y>(job, "y");
  bind_address<&ConvActPool::argmax>(job, "argmax");
  bind_address<&ConvActPool::dy>(job, "dy");
  bind_address<&ConvActPool::dweight>(job, "dweight");
  bind_address<&ConvActPool::dbias>(job, "dbias");
  job.def_prop_ro("oh", &ConvActPool::oh).def_prop_ro("ow", &ConvActPool::ow);
  job.def_prop_ro("has_argmax", [](const ConvActPool& self) { return has_argmax(self.pool); });
  job.def_prop_ro("reads_output", &ConvActPool::reads_output);
  bind_kernel(m, "conv_act_pool_forward", conv_act_pool_forward, check_forward);
  bind_kernel(m, "conv_act_pool_backward", conv_act_pool_backward, check_backward);
}

}  // namespace convscope
