// The Python module: the choice of the instruction set, threads, and the kernels of bind_*.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "activation.h"
#include "parallel.h"
#include "pool.h"
#include "variants.h"

CONVSCOPE_KERNEL(int64_t, multiply_add_loop, int64_t)

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {

void bind_stem(nb::module_& m);
void bind_norm_act_pool(nb::module_& m);
void bind_dense(nb::module_& m);
void bind_step(nb::module_& m);

namespace {

// How many of the variants this processor can run; each needs all that the one before it needs.
int usable_variants() {
  int count = 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  [[maybe_unused]] const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  [[maybe_unused]] const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                       __builtin_cpu_supports("avx512vl");
  CONVSCOPE_AVX2(count += avx2;)
  CONVSCOPE_AVX512(count += avx512;)
  CONVSCOPE_AVX512BF16(count += avx512 && __builtin_cpu_supports("avx512bf16");)
#endif
  return count;
}

}  // namespace

int variant = usable_variants() - 1;

namespace {

void use_variant(const std::string& name) {
  for (int i = 0; i < usable_variants(); ++i) {
    if (name == kVariantNames[i]) {
      variant = i;
      return;
    }
  }
  throw std::invalid_argument("no kernels for '" + name + "' in this build or for this processor; see variants()");
}

// 1e9 floating-point operations per second of all threads together, the best of 5 attempts.
double peak_gflops() {
  const int64_t rounds = 20000, count = threads();
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<int64_t> operations(count * 4);
    parallel_for(count * 4, [&](int64_t chunk) { operations[chunk] = multiply_add_loop[variant](rounds); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double sum = 0;
    for (int64_t part : operations) sum += double(part);
    best = std::max(best, sum / seconds.count() / 1e9);
  }
  return best;
}

// {name: number} of an enumeration.
template <size_t kCount>
nb::dict numbers(const char* const (&names)[kCount]) {
  nb::dict found;
  for (size_t number = 0; number < kCount; ++number) found[names[number]] = number;
  return found;
}

}  // namespace

NB_MODULE(_kernels, m) {
  m.attr("ACTIVATIONS") = numbers(kActivationNames);
  m.attr("POOLS") = numbers(kPoolNames);
  m.def("variants", [] { return std::vector<std::string>(kVariantNames, kVariantNames + usable_variants()); });
  m.def("variant", [] { return std::string(kVariantNames[variant]); });
  m.def("use_variant", &use_variant, "name"_a);
  m.def("set_threads", [](int count) { set_threads(count); }, "count"_a, nb::call_guard<nb::gil_scoped_release>());
  m.def("threads", &threads);
  m.def("share_openmp", &share_openmp, "share"_a);
  m.def("active_threads", &active_threads);
  m.def("peak_gflops", &peak_gflops, nb::call_guard<nb::gil_scoped_release>());
  bind_stem(m);
  bind_norm_act_pool(m);
  bind_dense(m);
  bind_step(m);
}

}  // namespace convscope
