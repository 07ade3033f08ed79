// [pool] [batch norm] [activation] [pool], forward and backward: what each chunk of a map goes through.
// Convolution outputs are larger than the caches, so each pass over them costs what its memory traffic costs.
#pragma once

#include "chain_cell.h"

namespace CONVSCOPE_NAMESPACE {

// Per channel: u = (x - mean) * scale + shift goes into the activation; backward dx = g * scale + (x - mean) * tilt + level.
struct Coefficients {
  const float *mean, *scale, *shift, *tilt, *level;
  bool tilts;  // else dx = g * scale, for an infinite x too
};

inline Vec sent_back(const Coefficients& norm, Vec x0, Vec tilt, Vec level) {
  return norm.tilts ? x0 * tilt + level : Vec{};
}

// Pooling windows of `size` x `size` cells over rows of w cells.
struct Grid {
  int64_t h, w, c, size, oh, ow;
  int64_t images_row(int64_t row) const { return row / oh * h + row % oh * size; }  // input row of output row `row`
};

template <class T>
inline int64_t block_pixels(int64_t c) {  // what stays in the L1 cache while one vector of channels after the other is done
  return std::clamp<int64_t>(4096 / (c * int64_t(sizeof(T))), 16, 256);
}

// Two sums per channel, kept per vector of channels between blocks.
struct Sums {
  float *first, *second;
  explicit Sums(int64_t c) : first(scratch<0>(2 * padded(c))), second(first + padded(c)) {
    std::fill_n(first, 2 * padded(c), 0.f);
  }
  void add(int64_t vector, Vec a, Vec b) const {
    float *to = first + vector * kWidth, *too = second + vector * kWidth;
    store(to, load(to) + a);
    store(too, load(too) + b);
  }
  void write(int64_t c, float* to, float* too) const {
    over_channels(c, [&](auto lanes, int64_t vector, int64_t channel) {
      lanes.put(to + channel, load(first + vector * kWidth));
      lanes.put(too + channel, load(second + vector * kWidth));
    });
  }
};

// Mean and sum of squared deviations of a chunk that fits the L2 cache: two passes, so nothing cancels.
template <class T>
void moments(const T* x, int64_t pixels, int64_t c, float* mean, float* squares) {
  const int64_t step = block_pixels<T>(c);
  const auto pass = [&](auto&& term) {
    const Sums sums(c);
    for (int64_t begin = 0; begin < pixels; begin += step) {
      const int64_t end = std::min(pixels, begin + step);
      over_channels(c, [&](auto lanes, int64_t vector, int64_t channel) {
        Vec a[4]{}, b[4]{};
        const Vec center = lanes.get(mean + channel);
        int64_t pixel = begin;
        for (; pixel + 4 <= end; pixel += 4)
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) term(lanes.get(x + (pixel + i) * c + channel), center, a[i], b[i]);
        for (; pixel < end; ++pixel) term(lanes.get(x + pixel * c + channel), center, a[0], b[0]);
        sums.add(vector, (a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]));
      });
    }
    return sums;
  };
  pass([](Vec value, Vec, Vec& a, Vec&) { a += value; }).write(c, mean, squares);
  for (int64_t i = 0; i < c; ++i) mean[i] /= float(pixels);
  const Sums rest = pass([](Vec value, Vec center, Vec& a, Vec& b) {
    const Vec deviation = value - center;
    a += deviation;
    b += deviation * deviation;
  });
  float* left = scratch<1>(c);  // what rounding has left in the deviations
  rest.write(c, left, squares);
  for (int64_t i = 0; i < c; ++i) {
    mean[i] += left[i] / float(pixels);
    squares[i] -= left[i] * left[i] / float(pixels);
  }
}

// y = activation(norm(x)). In the order of memory: each cell is read once.
template <int kind, class T>
void apply(const T* x, int64_t pixels, int64_t c, const Coefficients& norm, T* y) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    over_channels(c, [&](auto lanes, int64_t, int64_t channel) {
      const int64_t at = pixel * c + channel;
      lanes.put(y + at, activate<kind>((lanes.get(x + at) - lanes.get(norm.mean + channel)) *
                                           lanes.get(norm.scale + channel) + lanes.get(norm.shift + channel)));
    });
}

// The sums over the batch that the norm's gradients need: of g, and of g * (x - mean), g = dy * slope.
template <int kind, class T>
void reduce(const T* x, const T* dy, int64_t pixels, int64_t c, const Coefficients& norm, const Sums& sums) {
  const int64_t step = block_pixels<T>(c);
  for (int64_t begin = 0; begin < pixels; begin += step) {
    const int64_t end = std::min(pixels, begin + step);
    over_channels(c, [&](auto lanes, int64_t vector, int64_t channel) {
      const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
      const Vec shift = lanes.get(norm.shift + channel);
      Vec a{}, b{};
      for (int64_t at = begin * c + channel; at < end * c; at += c) {
        const Vec x0 = lanes.get(x + at) - mean;
        const Vec g = lanes.get(dy + at) * slope<kind>(x0 * scale + shift);
        a += g;
        b += g * x0;
      }
      sums.add(vector, a, b);
    });
  }
}

// dx, no pool.
template <int kind, class T>
void spread(const T* x, const T* dy, int64_t pixels, int64_t c, const Coefficients& norm, T* dx) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    over_channels(c, [&](auto lanes, int64_t, int64_t channel) {
      const int64_t at = pixel * c + channel;
      const Vec x0 = lanes.get(x + at) - lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
      const Vec g = lanes.get(dy + at) * slope<kind>(x0 * scale + lanes.get(norm.shift + channel));
      lanes.put(dx + at, g * scale + sent_back(norm, x0, lanes.get(norm.tilt + channel), lanes.get(norm.level + channel)));
    });
}

// Calls work(lanes, vector, channel, first output cell, one past the last) for blocks of one output row.
template <class T, class Work>
inline void over_row(const Grid& grid, Work&& work) {
  const int64_t step = std::max<int64_t>(4, 16384 / (grid.size * grid.size * grid.c * int64_t(sizeof(T))));
  for (int64_t begin = 0; begin < grid.ow; begin += step) {
    const int64_t end = std::min(grid.ow, begin + step);
    over_channels(grid.c, [&](auto lanes, int64_t vector, int64_t channel) { work(lanes, vector, channel, begin, end); });
  }
}

constexpr int kPlain = -1;  // in place of an activation: no norm either
constexpr int kDead = 255;  // no cell of the window is to get a gradient

// One output row from `size` input rows at x: y = pool(activation(norm(x))). sign: 1 for max, -1 for min.
template <int kind, bool extreme, int fixed, class T>
void pool_row(const Grid& grid, const T* x, const Coefficients& norm, float sign, bool mark_dead, T* y, uint8_t* winner) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    Vec mean{}, scale{}, shift{};
    if constexpr (kind != kPlain) {
      mean = lanes.get(norm.mean + channel);
      scale = lanes.get(norm.scale + channel);
      shift = lanes.get(norm.shift + channel);
    }
    const Vec factor = all(extreme ? sign : 1 / float(size * size));
    for (int64_t cell = begin; cell < end; ++cell) {
      const T* window = x + cell * size * c + channel;
      Vec best{};
      IntVec place{};
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          Vec value = lanes.get(window + i * row + j * c);
          if constexpr (kind != kPlain) value = activate<kind>((value - mean) * scale + shift);
          value *= factor;
          if constexpr (extreme) {
            const IntVec wins = (value > best) | (value != value);  // the first one wins, NaN wins
            const bool start = i + j == 0;
            best = start ? value : wins ? value : best;
            place = start ? place : wins ? IntVec{} + int32_t(i * size + j) : place;
          } else {
            best += value;
          }
        }
      const int64_t at = cell * c + channel;
      if constexpr (extreme) {
        best *= factor;
        if constexpr (kind == convscope::kRelu)
          if (mark_dead) place = best <= all(0) ? IntVec{} + kDead : place;
        lanes.put_bytes(winner + at, place);
      }
      lanes.put(y + at, best);
    }
  });
}

// The sums of `reduce` through a pool that comes last: over the winners, or over all cells with their share.
template <int kind, bool extreme, int fixed, class T>
void reduce_row(const Grid& grid, const T* x, const T* dy, const uint8_t* winner, const Coefficients& norm,
                const Sums& sums) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t vector, int64_t channel, int64_t begin, int64_t end) {
    const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
    const Vec shift = lanes.get(norm.shift + channel), share = all(1 / float(size * size));
    Vec a{}, b{};
    for (int64_t cell = begin; cell < end; ++cell) {
      const T* window = x + cell * size * c + channel;
      const int64_t at = cell * c + channel;
      const Vec above = lanes.get(dy + at);
      IntVec place{};
      if constexpr (extreme) place = lanes.get_bytes(winner + at);
      Vec taken{};
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          const Vec value = lanes.get(window + i * row + j * c);
          if constexpr (extreme) {
            taken = place == int32_t(i * size + j) ? value : taken;
          } else {
            const Vec x0 = value - mean, g = above * share * slope<kind>(x0 * scale + shift);
            a += g;
            b += g * x0;
          }
        }
      if constexpr (extreme) {
        const Vec x0 = taken - mean, g = above * slope<kind>(x0 * scale + shift);
        a += g;
        b += g * x0;
      }
    }
    sums.add(vector, a, b);
  });
}

// dx of `size` input rows below one output row, the pool last.
template <int kind, bool extreme, int fixed, class T>
void spread_row(const Grid& grid, const T* x, const T* dy, const uint8_t* winner, const Coefficients& norm, T* dx) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    const Vec mean = lanes.get(norm.mean + channel), scale = lanes.get(norm.scale + channel);
    const Vec shift = lanes.get(norm.shift + channel), share = all(1 / float(size * size));
    const Vec tilt = lanes.get(norm.tilt + channel), level = lanes.get(norm.level + channel);
    for (int64_t cell = begin; cell < end; ++cell) {
      const int64_t at = cell * c + channel, corner = cell * size * c + channel;
      const Vec above = lanes.get(dy + at);
      IntVec place{};
      Vec g{};
      if constexpr (extreme) {
        place = lanes.get_bytes(winner + at);
        Vec taken{};
        for (int i = 0; i < size; ++i)
          for (int j = 0; j < size; ++j)
            taken = place == int32_t(i * size + j) ? lanes.get(x + corner + i * row + j * c) : taken;
        g = above * slope<kind>((taken - mean) * scale + shift) * scale;
      }
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j) {
          const int64_t here = corner + i * row + j * c;
          const Vec x0 = lanes.get(x + here) - mean;
          if constexpr (extreme)
            lanes.put(dx + here, (place == int32_t(i * size + j) ? g : all(0)) + sent_back(norm, x0, tilt, level));
          else
            lanes.put(dx + here, above * share * slope<kind>(x0 * scale + shift) * scale + sent_back(norm, x0, tilt, level));
        }
    }
  });
}

// dx of `size` input rows above one row of z, the pool first; kPlain: dy is already the pooled map's gradient.
template <int kind, bool extreme, int fixed, class T>
void scatter_row(const Grid& grid, const T* z, const T* dy, const uint8_t* winner, const Coefficients& norm, T* dx) {
  const int64_t size = fixed ? fixed : grid.size, c = grid.c, row = grid.w * c;
  over_row<T>(grid, [&](auto lanes, int64_t, int64_t channel, int64_t begin, int64_t end) {
    Vec mean{}, scale{}, shift{}, tilt{}, level{};
    if constexpr (kind != kPlain) {
      mean = lanes.get(norm.mean + channel);
      scale = lanes.get(norm.scale + channel);
      shift = lanes.get(norm.shift + channel);
      tilt = lanes.get(norm.tilt + channel);
      level = lanes.get(norm.level + channel);
    }
    const Vec share = all(1 / float(size * size));
    for (int64_t cell = begin; cell < end; ++cell) {
      const int64_t at = cell * c + channel;
      Vec g = lanes.get(dy + at);
      if constexpr (kind != kPlain) {
        const Vec x0 = lanes.get(z + at) - mean;
        g = g * slope<kind>(x0 * scale + shift) * scale + sent_back(norm, x0, tilt, level);
      }
      IntVec place{};
      if constexpr (extreme)
        place = lanes.get_bytes(winner + at);
      else
        g *= share;
      T* window = dx + cell * size * c + channel;
      for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j)
          lanes.put(window + i * row + j * c, extreme ? (place == int32_t(i * size + j) ? g : all(0)) : g);
    }
  });
}

// dx of the cells that fill no window, `below` further rows included: what the norm alone sends back, or zero.
template <bool norm_sends, class T>
void spread_rest(const Grid& grid, int64_t below, const T* x, const Coefficients& norm, T* dx) {
  const auto fill = [&](int64_t first, int64_t pixels) {
    const T* from = norm_sends ? x + first * grid.c : nullptr;
    T* to = dx + first * grid.c;
    if constexpr (!norm_sends)
      std::fill_n(to, pixels * grid.c, T{});
    else
      over_channels(grid.c, [&](auto lanes, int64_t, int64_t channel) {
        const Vec mean = lanes.get(norm.mean + channel);
        const Vec tilt = lanes.get(norm.tilt + channel), level = lanes.get(norm.level + channel);
        for (int64_t at = channel; at < pixels * grid.c; at += grid.c)
          lanes.put(to + at, (lanes.get(from + at) - mean) * tilt + level);
      });
  };
  const int64_t inside = grid.ow * grid.size;
  if (inside < grid.w)
    for (int64_t i = 0; i < grid.size; ++i) fill(i * grid.w + inside, grid.w - inside);
  if (below) fill(grid.size * grid.w, below * grid.w);
}

}  // namespace CONVSCOPE_NAMESPACE
