// Tensors come from Python as addresses of their numbers, 0 for none.
#pragma once

#include <cstdint>

namespace convscope {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace convscope
