// Binds the fields of jobs that are no plain numbers.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

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

inline void expect(bool holds, const char* message) {
  if (!holds) throw nanobind::value_error(message);
}

}  // namespace convscope
