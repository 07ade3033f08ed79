// Helpers that bind jobs and the kernels that take them.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "variants.h"

namespace convscope {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <class Member>
struct MemberOf;
template <class Job_, class Field_>
struct MemberOf<Field_ Job_::*> {
  using Job = Job_;
  using Field = Field_;
};

// Binds a pointer as the address of a tensor's data, 0 for null.
template <auto kMember, class Class>
void bind_address(Class& job, const char* name) {
  using Job = typename MemberOf<decltype(kMember)>::Job;
  using Field = typename MemberOf<decltype(kMember)>::Field;
  job.def_prop_rw(
      name, [](const Job& self) { return reinterpret_cast<uintptr_t>(self.*kMember); },
      [](Job& self, uintptr_t address) { self.*kMember = reinterpret_cast<Field>(address); });
}

// Binds an enumeration as its number.
template <auto kMember, class Class>
void bind_enum(Class& job, const char* name) {
  using Job = typename MemberOf<decltype(kMember)>::Job;
  using Field = typename MemberOf<decltype(kMember)>::Field;
  job.def_prop_rw(
      name, [](const Job& self) { return int32_t(self.*kMember); },
      [](Job& self, int32_t number) { self.*kMember = Field(number); });
}

// Binds a kernel: `check` validates its job, then the function of the instruction set in use runs without the GIL.
template <class Job>
void bind_kernel(nanobind::module_& m, const char* name, void (*const* kernel)(const Job&), void (*check)(const Job&)) {
  const auto run = [kernel, check](const Job& job) {
    check(job);
    nanobind::gil_scoped_release released;
    kernel[variant](job);
  };
  m.def(name, run, nanobind::arg("job"));
}

inline void expect(bool holds, const char* message) {
  if (!holds) throw nanobind::value_error(message);
}

}  // namespace convscope
