// The Python module: the choice of the instruction set, threads, and the kernels of bind_*.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "chosen.h"
#include "parallel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {

void bind_stem(nb::module_& m);
void bind_norm_act_pool(nb::module_& m);
void bind_dense(nb::module_& m);
void bind_step(nb::module_& m);

namespace {

// The variants that this processor can run, slowest first.
std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found{&kernels_plain()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  [[maybe_unused]] const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  [[maybe_unused]] const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                       __builtin_cpu_supports("avx512vl");
#endif
#if defined(CONVSCOPE_HAS_avx2)
  if (avx2) found.push_back(&kernels_avx2());
#endif
#if defined(CONVSCOPE_HAS_avx512)
  if (avx512) found.push_back(&kernels_avx512());
#endif
#if defined(CONVSCOPE_HAS_avx512bf16)
  if (avx512 && __builtin_cpu_supports("avx512bf16")) found.push_back(&kernels_avx512bf16());
#endif
  return found;
}

}  // namespace

const Kernels* chosen = usable().back();

namespace {

void use_variant(const std::string& name) {
  for (const Kernels* candidate : usable()) {
    if (name == candidate->name) {
      chosen = candidate;
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
    parallel_for(count * 4, [&](int64_t chunk) { operations[chunk] = chosen->multiply_add_loop(rounds); });
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
  m.def("variants", [] {
    std::vector<std::string> names;
    for (const Kernels* candidate : usable()) names.push_back(candidate->name);
    return names;
  });
  m.def("variant", [] { return std::string(chosen->name); });
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
