// Activations and their slopes, on registers.
#pragma once

#include <cstddef>

#include "kinds.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::Activation;
using convscope::kGelu;
using convscope::kNone;
using convscope::kRelu;
using convscope::kTanh;

// Estrin's scheme: half the coefficients plus x^(a power of 2) times the others. Horner's chain of multiply-adds is as long
// as the polynomial, and too long to overlap with the next one's.
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

inline Vec clamp(Vec x, float most) {  // NaN stays
  x = x > all(most) ? all(most) : x;
  return x < all(-most) ? all(-most) : x;
}

// x Phi(x), Phi the normal distribution: Phi - 1/2 = x P(x^2), minimax for |x| < 5.2, error of the product under 4e-7.
inline Vec gelu(Vec x) {
  static constexpr float kPhi[] = {
      0.135949981f,     -0.0677436182f, 0.0500256152f,    -0.039931986f,  0.0319739153f,   -0.0246988395f, 0.0180387783f,
      -0.012619662f,    0.00836508351f, -0.00454230883f,  0.00200519332f, -0.00146877826f, 0.00118868067f, -0.000388233194f};
  constexpr float kMost = 5.2f * 5.2f;
  const Vec squared = x * x, t = squared < all(kMost) ? squared : all(kMost);
  return x * clamp(x * polynomial(t * (2 / kMost) - 1, kPhi), 0.5f) + x * 0.5f;
}

// Phi(x) + x phi(x), error under 1e-6.
inline Vec gelu_slope(Vec x) {
  static constexpr float kSlope[] = {
      0.131200372f,   -0.0673145884f, 0.0557279419f,  -0.0566982404f, 0.0642187157f,   -0.0734272071f, 0.0760954568f,
      -0.0681886672f, 0.0636916048f,  -0.0626044279f, 0.0370372855f,  -0.00618742825f, 0.009689423f,   -0.0182235533f,
      0.00757619272f};
  constexpr float kEdge = 5.4f;
  const Vec inside = clamp(x, kEdge);
  return inside * polynomial(inside * inside * (2 / (kEdge * kEdge)) - 1, kSlope) + 0.5f;
}

// Eigen's rational minimax approximation, error under 3e-7.
inline Vec tanh(Vec x) {
  static constexpr float kOver[] = {4.89352455891786e-03f,  6.37261928875436e-04f, 1.48572235717979e-05f,
                                    5.12229709037114e-08f,  -8.60467152213735e-11f, 2.00018790482477e-13f,
                                    -2.76076847742355e-16f};
  static constexpr float kUnder[] = {4.89352518554385e-03f, 2.26843463243900e-03f, 1.18534705686654e-04f,
                                     1.19825839466702e-06f};
  const Vec inside = clamp(x, 7.90531111f), t = inside * inside;
  return inside * polynomial(t, kOver) / polynomial(t, kUnder);
}

template <int kind>
inline Vec activate(Vec x) {
  if constexpr (kind == kRelu) return x < all(0) ? all(0) : x;
  if constexpr (kind == kGelu) return gelu(x);
  if constexpr (kind == kTanh) return tanh(x);
  return x;
}

template <int kind>
inline Vec slope(Vec x) {
  if constexpr (kind == kRelu) return x <= all(0) ? all(0) : all(1);  // NaN: 1, as torch has it
  if constexpr (kind == kGelu) return gelu_slope(x);
  if constexpr (kind == kTanh) {
    const Vec y = tanh(x);
    return 1 - y * y;
  }
  return all(1);
}

inline Vec activate(Vec x, Activation kind) {
  switch (kind) {
    case kRelu: return activate<kRelu>(x);
    case kGelu: return activate<kGelu>(x);
    case kTanh: return activate<kTanh>(x);
    default: return x;
  }
}

inline Vec slope(Vec x, Activation kind) {
  switch (kind) {
    case kRelu: return slope<kRelu>(x);
    case kGelu: return slope<kGelu>(x);
    case kTanh: return slope<kTanh>(x);
    default: return all(1);
  }
}

// Not inlined, so that they take no registers from the loops that call them seldom.
__attribute__((noinline)) inline void activate_all(Vec* values, int64_t count, Activation kind) {
  for (int64_t i = 0; i < count; ++i) values[i] = activate(values[i], kind);
}

__attribute__((noinline)) inline void slope_all(Vec* values, int64_t count, Activation kind) {
  for (int64_t i = 0; i < count; ++i) values[i] = slope(values[i], kind);
}

// The same from y, the value after activation. Not for GELU, where y does not tell.
inline Vec slope_from_output(Vec y, Activation function) {
  if (function == kTanh) return 1.0f - y * y;
  return function == kRelu ? (y <= 0.0f ? Vec{} : all(1.0f)) : all(1.0f);
}

}  // namespace CONVSCOPE_NAMESPACE
