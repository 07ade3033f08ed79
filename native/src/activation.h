// The activations that the kernels fuse, with their derivatives.
//
// To add one, add a row to CONVSCOPE_ACTIVATIONS and a struct `Function<k...>` below. Python sees the names as
// `_kernels.ACTIVATIONS`; a network's other activations run in PyTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

// Enumerator, name, and whether the function is monotone: it never decreases, and its output tells its slope, so a
// kernel may apply it after a max or min pool and need not recompute its input.
#define CONVSCOPE_ACTIVATIONS(ROW) \
  ROW(kNone, none, true)           \
  ROW(kRelu, relu, true)           \
  ROW(kLeakyRelu, leakyrelu, true) \
  ROW(kGelu, gelu, false)          \
  ROW(kTanh, tanh, true)

namespace convscope {

#define CONVSCOPE_ENUMERATOR(enumerator, name, monotone) enumerator,
enum Activation : int32_t { CONVSCOPE_ACTIVATIONS(CONVSCOPE_ENUMERATOR) kActivationCount };
#undef CONVSCOPE_ENUMERATOR

#define CONVSCOPE_NAME(enumerator, name, monotone) #name,
constexpr const char* kActivationNames[] = {CONVSCOPE_ACTIVATIONS(CONVSCOPE_NAME)};
#undef CONVSCOPE_NAME

constexpr bool is_monotone(Activation activation) {
#define CONVSCOPE_MONOTONE(enumerator, name, monotone) monotone,
  constexpr bool values[] = {CONVSCOPE_ACTIVATIONS(CONVSCOPE_MONOTONE)};
#undef CONVSCOPE_MONOTONE
  return values[activation];
}

}  // namespace convscope

#if defined(CONVSCOPE_VARIANT)  // the functions themselves, on the registers of one instruction set

#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::Activation;
using enum convscope::Activation;

// Estrin's scheme: half the coefficients plus x^(a power of 2) times the others. The dependency chain of Horner's
// scheme is as long as the polynomial, too long to overlap with the next one.
template <int count>
inline Vec polynomial(const Vec* powers, const float* coefficients) {  // powers: x, x^2, x^4, x^8
  if constexpr (count == 1) {
    return all(coefficients[0]);
  } else {
    constexpr int step = count > 8 ? 3 : count > 4 ? 2 : count > 2 ? 1 : 0;
    return polynomial<count - (1 << step)>(powers, coefficients + (1 << step)) * powers[step] +
           polynomial<(1 << step)>(powers, coefficients);
  }
}

template <size_t count>
inline Vec polynomial(Vec x, const float (&coefficients)[count]) {
  static_assert(count <= 16);
  const Vec squared = x * x, fourth = squared * squared, powers[] = {x, squared, fourth, fourth * fourth};
  return polynomial<int(count)>(powers, coefficients);
}

inline Vec clamp(Vec x, float limit) {  // to [-limit, limit]; NaN stays NaN
  x = x > all(limit) ? all(limit) : x;
  return x < all(-limit) ? all(-limit) : x;
}

// `value` and `slope` map inputs; `slope_from_output` maps outputs and exists for monotone functions only.
template <Activation>
struct Function;

template <>
struct Function<kNone> {
  static Vec value(Vec x) { return x; }
  static Vec slope(Vec) { return all(1); }
  static Vec slope_from_output(Vec) { return all(1); }
};

template <>
struct Function<kRelu> {
  static Vec value(Vec x) { return x < all(0) ? all(0) : x; }
  static Vec slope(Vec x) { return x <= all(0) ? all(0) : all(1); }  // NaN: 1, as in PyTorch
  static Vec slope_from_output(Vec y) { return slope(y); }
};

template <>
struct Function<kLeakyRelu> {
  static constexpr float kNegativeSlope = 0.01f;
  static Vec value(Vec x) { return x < all(0) ? x * kNegativeSlope : x; }
  static Vec slope(Vec x) { return x > all(0) ? all(1) : all(kNegativeSlope); }  // NaN: the latter, as in PyTorch
  static Vec slope_from_output(Vec y) { return slope(y); }
};

template <>
struct Function<kGelu> {
  // x Phi(x), Phi the normal distribution: Phi - 1/2 = x P(x^2), minimax for |x| < 5.2; error of the product < 4e-7.
  static Vec value(Vec x) {
    static constexpr float kPhi[] = {0.135949981f,   -0.0677436182f,  0.0500256152f,  -0.039931986f,   0.0319739153f,
                                     -0.0246988395f, 0.0180387783f,   -0.012619662f,  0.00836508351f,  -0.00454230883f,
                                     0.00200519332f, -0.00146877826f, 0.00118868067f, -0.000388233194f};
    constexpr float kEdge = 5.2f * 5.2f;
    const Vec squared = x * x, t = squared < all(kEdge) ? squared : all(kEdge);
    return x * clamp(x * polynomial(t * (2 / kEdge) - 1, kPhi), 0.5f) + x * 0.5f;
  }

  // Phi(x) + x phi(x), error < 1e-6.
  static Vec slope(Vec x) {
    static constexpr float kSlope[] = {0.131200372f,   -0.0673145884f,  0.0557279419f,  -0.0566982404f, 0.0642187157f,
                                       -0.0734272071f, 0.0760954568f,   -0.0681886672f, 0.0636916048f,  -0.0626044279f,
                                       0.0370372855f,  -0.00618742825f, 0.009689423f,   -0.0182235533f, 0.00757619272f};
    constexpr float kEdge = 5.4f;
    const Vec inside = clamp(x, kEdge);
    return inside * polynomial(inside * inside * (2 / (kEdge * kEdge)) - 1, kSlope) + 0.5f;
  }
};

template <>
struct Function<kTanh> {
  // The rational minimax approximation of Eigen, error < 3e-7.
  static Vec value(Vec x) {
    static constexpr float kNumerator[] = {4.89352455891786e-03f, 6.37261928875436e-04f,  1.48572235717979e-05f,
                                           5.12229709037114e-08f, -8.60467152213735e-11f, 2.00018790482477e-13f,
                                           -2.76076847742355e-16f};
    static constexpr float kDenominator[] = {4.89352518554385e-03f, 2.26843463243900e-03f, 1.18534705686654e-04f,
                                             1.19825839466702e-06f};
    const Vec inside = clamp(x, 7.90531111f), t = inside * inside;
    return inside * polynomial(t, kNumerator) / polynomial(t, kDenominator);
  }
  static Vec slope(Vec x) { return slope_from_output(value(x)); }
  static Vec slope_from_output(Vec y) { return 1 - y * y; }
};

// work(std::integral_constant of the activation), so that loops are compiled once for each.
template <class Work>
inline void with_activation(Activation activation, Work&& work) {
  switch (activation) {
#define CONVSCOPE_CASE(enumerator, name, monotone) \
  case convscope::enumerator: return work(std::integral_constant<Activation, convscope::enumerator>{});
    CONVSCOPE_ACTIVATIONS(CONVSCOPE_CASE)
#undef CONVSCOPE_CASE
    default: return;
  }
}

// Not inlined, so that the loops that rarely call them keep their registers.
__attribute__((noinline)) inline void activate_all(Vec* values, int64_t count, Activation activation) {
  with_activation(activation, [&](auto kind) {
    for (int64_t i = 0; i < count; ++i) values[i] = Function<kind>::value(values[i]);
  });
}

__attribute__((noinline)) inline void slope_all(Vec* values, int64_t count, Activation activation) {
  with_activation(activation, [&](auto kind) {
    for (int64_t i = 0; i < count; ++i) values[i] = Function<kind>::slope(values[i]);
  });
}

// Of monotone functions.
inline Vec slope_from_output(Vec y, Activation activation) {
  Vec slope = all(1);
  with_activation(activation, [&](auto kind) {
    if constexpr (convscope::is_monotone(kind)) slope = Function<kind>::slope_from_output(y);
  });
  return slope;
}

}  // namespace CONVSCOPE_NAMESPACE

#endif  // CONVSCOPE_VARIANT
