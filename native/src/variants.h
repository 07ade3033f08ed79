// The instruction sets that the kernels are compiled for. CMakeLists.txt compiles every kernel once per set, each in a
// namespace of its own (vec.h), and defines CONVSCOPE_HAS_... for the sets of the build.
#pragma once

#if defined(CONVSCOPE_HAS_avx2)
#define CONVSCOPE_AVX2(...) __VA_ARGS__
#else
#define CONVSCOPE_AVX2(...)
#endif
#if defined(CONVSCOPE_HAS_avx512)
#define CONVSCOPE_AVX512(...) __VA_ARGS__
#else
#define CONVSCOPE_AVX512(...)
#endif
#if defined(CONVSCOPE_HAS_avx512bf16)
#define CONVSCOPE_AVX512BF16(...) __VA_ARGS__
#else
#define CONVSCOPE_AVX512BF16(...)
#endif

// Declares a kernel `Result name(Argument)` as an array of its functions, one per instruction set, slowest first.
// clang-format off
#define CONVSCOPE_KERNEL(Result, name, Argument)                                          \
  namespace convscope_plain { Result name(Argument); }                                    \
  CONVSCOPE_AVX2(namespace convscope_avx2 { Result name(Argument); })                     \
  CONVSCOPE_AVX512(namespace convscope_avx512 { Result name(Argument); })                 \
  CONVSCOPE_AVX512BF16(namespace convscope_avx512bf16 { Result name(Argument); })         \
  namespace convscope {                                                                   \
  constexpr Result (*name[])(Argument) = {                                                \
      convscope_plain::name,                                                              \
      CONVSCOPE_AVX2(convscope_avx2::name,)                                               \
      CONVSCOPE_AVX512(convscope_avx512::name,)                                           \
      CONVSCOPE_AVX512BF16(convscope_avx512bf16::name,)                                   \
  };                                                                                      \
  }
// clang-format on

namespace convscope {

constexpr const char* kVariantNames[] = {
    "plain", CONVSCOPE_AVX2("avx2", ) CONVSCOPE_AVX512("avx512", ) CONVSCOPE_AVX512BF16("avx512bf16", )};

// The instruction set in use: an index into kVariantNames and into the functions of every kernel.
extern int variant;

}  // namespace convscope
