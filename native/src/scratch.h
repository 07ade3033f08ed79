// Working memory of the kernels.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

// A buffer that only grows, aligned to a cache line. Not a std::vector: the linker would merge its functions across
// instruction sets.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  float* get(int64_t count) {
    if (count > count_) {
      std::free(memory_);
      memory_ = std::malloc(count * sizeof(float) + 64);
      if (!memory_) std::abort();  // a kernel may not throw
      count_ = count;
    }
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_) + 63) & ~uintptr_t{63});
  }

 private:
  void* memory_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace CONVSCOPE_NAMESPACE
