// Batch norm and activation of one chunk of a feature map, forward and backward.
// Feature maps are larger than the caches, so the cost of a pass over them is its memory traffic.
#pragma once

#include "activation.h"
#include "channels.h"

namespace CONVSCOPE_NAMESPACE {

// Per channel: the activation's input is (x - mean) * scale + shift, and with its gradient g
// dx = g * scale + (x - mean) * tilt + level. The last two terms are the gradients through the batch statistics.
struct Coefficients {
  const float *mean, *scale, *shift, *tilt, *level;
  bool batch_statistics;  // else dx = g * scale, also for an infinite x
};

inline Vec statistics_grad(const Coefficients& norm, Vec x0, Vec tilt, Vec level) {
  return norm.batch_statistics ? x0 * tilt + level : Vec{};
}

template <class T>
inline int64_t block_pixels(int64_t c) {  // few enough to stay in the L1 cache for all registers of channels
  return std::clamp<int64_t>(4096 / (c * int64_t(sizeof(T))), 16, 256);
}

// Two sums per channel, kept in whole registers between blocks.
struct Sums {
  float *first, *second;
  explicit Sums(int64_t c) : first(scratch<Use::kSums>(2 * padded_channels(c))), second(first + padded_channels(c)) {
    std::fill_n(first, 2 * padded_channels(c), 0.f);
  }
  void add(int64_t index, Vec a, Vec b) const {
    store(first + index * kWidth, load(first + index * kWidth) + a);
    store(second + index * kWidth, load(second + index * kWidth) + b);
  }
  void write(int64_t c, float* to_first, float* to_second) const {
    over_channels(c, [&](auto lanes, int64_t index, int64_t channel) {
      lanes.put(to_first + channel, load(first + index * kWidth));
      lanes.put(to_second + channel, load(second + index * kWidth));
    });
  }
};

// Mean and sum of squared deviations of a chunk that fits the L2 cache; two passes avoid cancellation.
template <class T>
void moments(const T* x, int64_t pixels, int64_t c, float* mean, float* squares) {
  const int64_t step = block_pixels<T>(c);
  const auto pass = [&](auto&& term) {
    const Sums sums(c);
    for (int64_t begin = 0; begin < pixels; begin += step) {
      const int64_t end = std::min(pixels, begin + step);
      over_channels(c, [&](auto lanes, int64_t index, int64_t channel) {
        Vec a[4]{}, b[4]{};
        const Vec center = lanes.get(mean + channel);
        int64_t pixel = begin;
        for (; pixel + 4 <= end; pixel += 4)
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) term(lanes.get(x + (pixel + i) * c + channel), center, a[i], b[i]);
        for (; pixel < end; ++pixel) term(lanes.get(x + pixel * c + channel), center, a[0], b[0]);
        sums.add(index, (a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]));
      });
    }
    return sums;
  };
  pass([](Vec value, Vec, Vec& a, Vec&) { a += value; }).write(c, mean, squares);
  for (int64_t i = 0; i < c; ++i) mean[i] /= float(pixels);
  const Sums deviations = pass([](Vec value, Vec center, Vec& a, Vec& b) {
    const Vec deviation = value - center;
    a += deviation;
    b += deviation * deviation;
  });
  float* residual = scratch<Use::kResidual>(c);  // the sum of the deviations, 0 but for rounding
  deviations.write(c, residual, squares);
  for (int64_t i = 0; i < c; ++i) {
    mean[i] += residual[i] / float(pixels);
    squares[i] -= residual[i] * residual[i] / float(pixels);
  }
}

// y = activation(norm(x)), in memory order: each cell is read once.
template <Activation kind, class T>
void apply(const T* x, int64_t pixels, int64_t c, const Coefficients& norm, T* y) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    over_channels(c, [&](auto lanes, int64_t, int64_t channel) {
      const int64_t at = pixel * c + channel;
      lanes.put(y + at, Function<kind>::value((lanes.get(x + at) - lanes.get(norm.mean + channel)) *
                                                  lanes.get(norm.scale + channel) +
                                              lanes.get(norm.shift + channel)));
    });
}

// The sums over the batch for the gradients of the norm: of g and of g * (x - mean), where g = dy * slope.
template <Activation kind, class T>
void reduce(const T* x, const T* dy, int64_t pixels, int64_t c, const Coefficients& norm, const Sums& sums) {
  const int64_t step = block_pixels<T>(c);
  for (int64_t begin = 0; begin < pixels; begin += step) {
    const int64_t end = std::min(pixels, begin + step);
    over_channels(c, [&](auto lanes, int64_t index, int64_t channel) {
      const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
      const Vec shift = lanes.get(norm.shift + channel);
      Vec a{}, b{};
      for (int64_t at = begin * c + channel; at < end * c; at += c) {
        const Vec x0 = lanes.get(x + at) - mean;
        const Vec g = lanes.get(dy + at) * Function<kind>::slope(x0 * scale + shift);
        a += g;
        b += g * x0;
      }
      sums.add(index, a, b);
    });
  }
}

// dx without a pool.
template <Activation kind, class T>
void norm_act_grad(const T* x, const T* dy, int64_t pixels, int64_t c, const Coefficients& norm, T* dx) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    over_channels(c, [&](auto lanes, int64_t, int64_t channel) {
      const int64_t at = pixel * c + channel;
      const Vec x0 = lanes.get(x + at) - lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
      const Vec g = lanes.get(dy + at) * Function<kind>::slope(x0 * scale + lanes.get(norm.shift + channel));
      lanes.put(dx + at,
                g * scale + statistics_grad(norm, x0, lanes.get(norm.tilt + channel), lanes.get(norm.level + channel)));
    });
}

}  // namespace CONVSCOPE_NAMESPACE
