// norm_act_pool for Python. convscope/backends/native/norm_act_pool.py checks types and layouts of the tensors.
#include <nanobind/nanobind.h>

#include "bind_job.h"
#include "norm_act_pool_job.h"

CONVSCOPE_KERNEL(void, norm_act_pool_forward, const convscope::NormActPool&)
CONVSCOPE_KERNEL(void, norm_act_pool_backward, const convscope::NormActPool&)

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

void check(const NormActPool& job) {
  expect(job.n > 0 && job.h > 0 && job.w > 0 && job.c > 0, "expected a feature map of at least one number");
  expect(job.activation >= 0 && job.activation < kActivationCount, "unknown activation");
  expect(job.pool >= 0 && job.pool < kPoolCount, "unknown pool");
  expect(job.pool == kNoPool || (job.pool_size > 0 && job.pool_size <= NormActPool::kMaxPoolSize),
         "expected a pool size of 1 to 15");
  expect(job.pool == kNoPool || (job.pool_size <= job.h && job.pool_size <= job.w),
         "expected a feature map that holds one pooling window");
  expect(job.norm || !job.batch_statistics, "batch statistics need a norm");
  expect(job.statistics || !job.norm, "expected the address of statistics");
  expect(job.argmax || !has_argmax(job.pool), "expected the address of argmax");
}

void check_forward(const NormActPool& job) {
  check(job);
  expect(job.x && job.y, "expected addresses of x and y");
  expect((job.running_mean && job.running_var) || !job.norm || job.batch_statistics,
         "expected addresses of the running statistics");
}

void check_backward(const NormActPool& job) {
  check(job);
  expect(job.dy, "expected the address of dy");
}

}  // namespace

void bind_norm_act_pool(nb::module_& m) {
  m.attr("MAX_POOL_SIZE") = NormActPool::kMaxPoolSize;
  nb::class_<NormActPool> job(m, "NormActPool");
  job.def(nb::init<>());
  job.def_rw("n", &NormActPool::n).def_rw("h", &NormActPool::h).def_rw("w", &NormActPool::w);
  job.def_rw("c", &NormActPool::c);
  bind_enum<&NormActPool::activation>(job, "activation");
  bind_enum<&NormActPool::pool>(job, "pool");
  job.def_rw("pool_size", &NormActPool::pool_size).def_rw("pool_first", &NormActPool::pool_first);
  job.def_rw("bf16", &NormActPool::bf16).def_rw("norm", &NormActPool::norm);
  job.def_rw("batch_statistics", &NormActPool::batch_statistics);
  job.def_rw("momentum", &NormActPool::momentum).def_rw("eps", &NormActPool::eps);
  bind_address<&NormActPool::x>(job, "x");
  bind_address<&NormActPool::pooled>(job, "pooled");
  bind_address<&NormActPool::y>(job, "y");
  bind_address<&NormActPool::argmax>(job, "argmax");
  bind_address<&NormActPool::weight>(job, "weight");
  bind_address<&NormActPool::bias>(job, "bias");
  bind_address<&NormActPool::statistics>(job, "statistics");
  bind_address<&NormActPool::running_mean>(job, "running_mean");
  bind_address<&NormActPool::running_var>(job, "running_var");
  bind_address<&NormActPool::dy>(job, "dy");
  bind_address<&NormActPool::dx>(job, "dx");
  bind_address<&NormActPool::dweight>(job, "dweight");
  bind_address<&NormActPool::dbias>(job, "dbias");
  job.def_prop_ro("has_argmax", [](const NormActPool& self) { return has_argmax(self.pool); });
  job.def_prop_ro("saved_for_backward", &NormActPool::saved_for_backward);
  bind_kernel(m, "norm_act_pool_forward", norm_act_pool_forward, check_forward);
  bind_kernel(m, "norm_act_pool_backward", norm_act_pool_backward, check_backward);
}

}  // namespace convscope
