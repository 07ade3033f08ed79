// Pooling fused with batch norm and activation, forward and backward, for one output row at a time.
#pragma once

#include "norm_act.h"
#include "pool.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::kNoArgmax;

// Pooling windows of `size` x `size` cells over maps of h x w cells.
struct Grid {
  int64_t h, w, c, size, oh, ow;
  // The first input row of an output row, both counted over the batch.
  int64_t input_row(int64_t row) const { return row / oh * h + row % oh * size; }
};

// Calls work(lanes, index of the register, channel, first output cell, end) for blocks of one output row.
template <class T, class Work>
inline void over_row(const Grid& grid, Work&& work) {
  const int64_t step = std::max<int64_t>(4, 16384 / (grid.size * grid.size * grid.c * int64_t(sizeof(T))));
  for (int64_t begin = 0; begin < grid.ow; begin += step) {
    const int64_t end = std::min(grid.ow, begin + step);
    over_channels(grid.c, [&](auto lanes, int64_t index, int64_t channel) { work(lanes, index, channel, begin, end); });
  }
}

// In place of an activation: neither norm nor activation.
constexpr Activation kPoolOnly = convscope::kActivationCount;

// One output row from `size` input rows at x: y = pool(activation(norm(x))).
// kind: the activation, or kPoolOnly. extreme: max or min. fixed: the window size if known at compile time, else 0. The
// same holds for the functions below. sign: 1 for max, -1 for min. relu_argmax: set kNoArgmax where ReLU closed.
template <Activation kind, bool extreme, int fixed, class T>
void pool_row(const Grid& grid, const T* x, const Coefficients& norm, float sign, bool relu_argmax, T* y,
              uint8_t* argmax) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    Vec mean{}, scale{}, shift{};
    if constexpr (kind != kPoolOnly) {
      mean = lanes.get(norm.mean + channel);
      scale = lanes.get(norm.scale + channel);
      shift = lanes.get(norm.shift + channel);
    }
    const Vec factor = all(extreme ? sign : 1 / float(size * size));
    for (int64_t cell = begin; cell < end; ++cell) {
      const T* window = x + cell * size * c + channel;
      Vec best{};
      IntVec best_cell{};
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          Vec value = lanes.get(window + i * row + j * c);
          if constexpr (kind != kPoolOnly) value = Function<kind>::value((value - mean) * scale + shift);
          value *= factor;
          if constexpr (extreme) {
            const IntVec larger = (value > best) | (value != value);  // ties: the first cell; NaN is the largest
            const bool start = i + j == 0;
            best = start ? value : larger ? value : best;
            best_cell = start ? best_cell : larger ? IntVec{} + int32_t(i * size + j) : best_cell;
          } else {
            best += value;
          }
        }
      const int64_t at = cell * c + channel;
      if constexpr (extreme) {
        best *= factor;
        if constexpr (kind == kRelu)
          if (relu_argmax) best_cell = best <= all(0) ? IntVec{} + kNoArgmax : best_cell;
        lanes.put_bytes(argmax + at, best_cell);
      }
      lanes.put(y + at, best);
    }
  });
}

// The sums of `reduce` through a pool that comes last: over the selected cells, or over all cells of an average.
template <Activation kind, bool extreme, int fixed, class T>
void reduce_row(const Grid& grid, const T* x, const T* dy, const uint8_t* argmax, const Coefficients& norm,
                const Sums& sums) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t index, int64_t channel, int64_t begin, int64_t end) {
    const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
    const Vec shift = lanes.get(norm.shift + channel), factor = all(1 / float(size * size));
    Vec a{}, b{};
    for (int64_t cell = begin; cell < end; ++cell) {
      const T* window = x + cell * size * c + channel;
      const int64_t at = cell * c + channel;
      const Vec dy_cell = lanes.get(dy + at);
      IntVec cell_index{};
      if constexpr (extreme) cell_index = lanes.get_bytes(argmax + at);
      Vec selected{};
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          const Vec value = lanes.get(window + i * row + j * c);
          if constexpr (extreme) {
            selected = cell_index == int32_t(i * size + j) ? value : selected;
          } else {
            const Vec x0 = value - mean, g = dy_cell * factor * Function<kind>::slope(x0 * scale + shift);
            a += g;
            b += g * x0;
          }
        }
      if constexpr (extreme) {
        const Vec x0 = selected - mean, g = dy_cell * Function<kind>::slope(x0 * scale + shift);
        a += g;
        b += g * x0;
      }
    }
    sums.add(index, a, b);
  });
}

// dx of the `size` input rows of one output row, for a pool that comes last.
template <Activation kind, bool extreme, int fixed, class T>
void pool_last_grad(const Grid& grid, const T* x, const T* dy, const uint8_t* argmax, const Coefficients& norm, T* dx) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
    const Vec shift = lanes.get(norm.shift + channel), factor = all(1 / float(size * size));
    const Vec tilt = lanes.get(norm.tilt + channel), level = lanes.get(norm.level + channel);
    for (int64_t cell = begin; cell < end; ++cell) {
      const int64_t at = cell * c + channel, corner = cell * size * c + channel;
      const Vec dy_cell = lanes.get(dy + at);
      IntVec cell_index{};
      Vec g{};
      if constexpr (extreme) {
        cell_index = lanes.get_bytes(argmax + at);
        Vec selected{};
        for (int i = 0; i < size; ++i)
          for (int j = 0; j < size; ++j)
            selected = cell_index == int32_t(i * size + j) ? lanes.get(x + corner + i * row + j * c) : selected;
        g = dy_cell * Function<kind>::slope((selected - mean) * scale + shift) * scale;
      }
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          const int64_t here = corner + i * row + j * c;
          const Vec x0 = lanes.get(x + here) - mean;
          if constexpr (extreme)
            lanes.put(dx + here,
                      (cell_index == int32_t(i * size + j) ? g : all(0)) + statistics_grad(norm, x0, tilt, level));
          else
            lanes.put(dx + here, dy_cell * factor * Function<kind>::slope(x0 * scale + shift) * scale +
                                     statistics_grad(norm, x0, tilt, level));
        }
    }
  });
}

// dx of the `size` input rows of one pooled row, for a pool that comes first. kPoolOnly: dy is the gradient of the
// pooled map itself.
template <Activation kind, bool extreme, int fixed, class T>
void pool_first_grad(const Grid& grid, const T* pooled, const T* dy, const uint8_t* argmax, const Coefficients& norm,
                     T* dx) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    Vec mean{}, scale{}, shift{}, tilt{}, level{};
    if constexpr (kind != kPoolOnly) {
      mean = lanes.get(norm.mean + channel);
      scale = lanes.get(norm.scale + channel);
      shift = lanes.get(norm.shift + channel);
      tilt = lanes.get(norm.tilt + channel);
      level = lanes.get(norm.level + channel);
    }
    const Vec factor = all(1 / float(size * size));
    for (int64_t cell = begin; cell < end; ++cell) {
      const int64_t at = cell * c + channel;
      Vec g = lanes.get(dy + at);
      if constexpr (kind != kPoolOnly) {
        const Vec x0 = lanes.get(pooled + at) - mean;
        g = g * Function<kind>::slope(x0 * scale + shift) * scale + statistics_grad(norm, x0, tilt, level);
      }
      IntVec cell_index{};
      if constexpr (extreme)
        cell_index = lanes.get_bytes(argmax + at);
      else
        g *= factor;
      T* window = dx + cell * size * c + channel;
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j)
          lanes.put(window + i * row + j * c, extreme ? (cell_index == int32_t(i * size + j) ? g : all(0)) : g);
    }
  });
}

// dx of the cells outside every window, including `below` rows at the bottom: the gradient through the batch
// statistics, or zero.
template <bool through_statistics, class T>
void remainder_grad(const Grid& grid, int64_t below, const T* x, const Coefficients& norm, T* dx) {
  const auto fill = [&](int64_t first, int64_t pixels) {
    const T* from = through_statistics ? x + first * grid.c : nullptr;
    T* to = dx + first * grid.c;
    if constexpr (!through_statistics)
      std::fill_n(to, pixels * grid.c, T{});
    else
      over_channels(grid.c, [&](auto lanes, int64_t, int64_t channel) {
        const Vec mean = lanes.get(norm.mean + channel);
        const Vec tilt = lanes.get(norm.tilt + channel), level = lanes.get(norm.level + channel);
        for (int64_t at = channel; at < pixels * grid.c; at += grid.c)
          lanes.put(to + at, (lanes.get(from + at) - mean) * tilt + level);
      });
  };
  const int64_t covered = grid.ow * grid.size;
  if (covered < grid.w)
    for (int64_t i = 0; i < grid.size; ++i) fill(i * grid.w + covered, grid.w - covered);
  if (below) fill(grid.size * grid.w, below * grid.w);
}

}  // namespace CONVSCOPE_NAMESPACE
