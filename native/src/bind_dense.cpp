// The dense layer for Python. convscope/backends/native/dense.py checks types and layouts of the tensors: to convert a
// tensor to an ndarray takes longer than a small layer.
#include <nanobind/nanobind.h>

#include "bind_job.h"
#include "dense_job.h"

CONVSCOPE_KERNEL(void, dense_forward, const convscope::Dense&)
CONVSCOPE_KERNEL(void, dense_backward, const convscope::Dense&)

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

void check(const Dense& job) {
  expect(job.n > 0 && job.inputs > 0 && job.units > 0, "expected at least one row, input and unit");
  expect(job.weight, "expected the address of weight");
}

void check_forward(const Dense& job) {
  check(job);
  expect(job.x && job.bias && job.y, "expected addresses of x, bias and y");
}

void check_backward(const Dense& job) {
  check(job);
  expect(job.dy, "expected the address of dy");
  expect(job.x || !job.dweight, "expected the address of x");
  expect(job.y || !job.relu, "expected the address of y");
}

}  // namespace

void bind_dense(nb::module_& m) {
  nb::class_<Dense> job(m, "Dense");
  job.def(nb::init<>());
  job.def_rw("n", &Dense::n).def_rw("inputs", &Dense::inputs).def_rw("units", &Dense::units);
  job.def_rw("relu", &Dense::relu).def_rw("bf16", &Dense::bf16).def_rw("x_is_bf16", &Dense::x_is_bf16);
  bind_address<&Dense::x>(job, "x");
  bind_address<&Dense::weight>(job, "weight");
  bind_address<&Dense::bias>(job, "bias");
  bind_address<&Dense::y>(job, "y");
  bind_address<&Dense::dy>(job, "dy");
  bind_address<&Dense::dx>(job, "dx");
  bind_address<&Dense::dweight>(job, "dweight");
  bind_address<&Dense::dbias>(job, "dbias");
  bind_kernel(m, "dense_forward", dense_forward, check_forward);
  bind_kernel(m, "dense_backward", dense_backward, check_backward);
}

}  // namespace convscope
