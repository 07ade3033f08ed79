// Python checks shapes, types and layouts (convscope.backends.native.norm_act_pool) and passes addresses: a call costs microseconds.
#include <nanobind/nanobind.h>

#include "address.h"
#include "chosen.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

Chain job_of(int64_t n, int64_t h, int64_t w, int64_t c, bool half, int32_t activation, int32_t pool, int32_t size,
             bool pool_first, bool norm, bool batch) {
  if (n < 1 || h < 1 || w < 1 || c < 1) throw nb::value_error("an empty map");
  if (activation < kNone || activation > kTanh) throw nb::value_error("no such activation");
  if (pool < kNoPool || pool > kAverage) throw nb::value_error("no such pool");
  if (pool != kNoPool && (size < 1 || size > 15 || size > h || size > w))
    throw nb::value_error("a pool's windows must be 1 to 15 wide and fit the map");
  Chain job{};
  job.n = n, job.h = h, job.w = w, job.c = c;
  job.half = half, job.activation = activation, job.pool = pool, job.size = size, job.pool_first = pool_first;
  job.norm = norm, job.batch = norm && batch;
  return job;
}

void chain_forward(int64_t n, int64_t h, int64_t w, int64_t c, bool half, int32_t activation, int32_t pool, int32_t size,
                   bool pool_first, bool norm, bool batch, uintptr_t x, uintptr_t z, uintptr_t y, uintptr_t winner,
                   uintptr_t weight, uintptr_t bias, uintptr_t statistics, uintptr_t running_mean, uintptr_t running_var,
                   float momentum, float eps) {
  Chain job = job_of(n, h, w, c, half, activation, pool, size, pool_first, norm, batch);
  job.x = at<void>(x), job.z = at<void>(z), job.y = at<void>(y), job.winner = at<uint8_t>(winner);
  job.weight = at<float>(weight), job.bias = at<float>(bias);
  job.mean = at<float>(statistics), job.rstd = job.mean ? job.mean + c : nullptr;
  job.running_mean = at<float>(running_mean), job.running_var = at<float>(running_var);
  job.momentum = momentum, job.eps = eps;
  nb::gil_scoped_release released;
  chosen->chain_forward(job);
}

void chain_backward(int64_t n, int64_t h, int64_t w, int64_t c, bool half, int32_t activation, int32_t pool, int32_t size,
                    bool pool_first, bool norm, bool batch, uintptr_t x, uintptr_t dy, uintptr_t dx, uintptr_t winner,
                    uintptr_t weight, uintptr_t bias, uintptr_t statistics, uintptr_t dweight, uintptr_t dbias) {
  Chain job = job_of(n, h, w, c, half, activation, pool, size, pool_first, norm, batch);
  job.x = at<void>(x), job.y = at<void>(dy), job.dx = at<void>(dx), job.winner = at<uint8_t>(winner);
  job.weight = at<float>(weight), job.bias = at<float>(bias);
  job.mean = at<float>(statistics), job.rstd = job.mean ? job.mean + c : nullptr;
  job.dweight = at<float>(dweight), job.dbias = at<float>(dbias);
  nb::gil_scoped_release released;
  chosen->chain_backward(job);
}

}  // namespace

void bind_chain(nb::module_& m) {
  m.def("chain_forward", &chain_forward);
  m.def("chain_backward", &chain_backward);
}

}  // namespace convscope
