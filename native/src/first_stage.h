// The first stage of a network in one pass over the images: convolution, bias, activation, pooling.
//
// Filters lie across the lanes. A tile is the cells of one or more pooling windows times kRegisters registers of
// filters: all its sums stay in registers until the pooled cell is written. Images are padded once, into a buffer in
// the first-level cache; the k * c numbers of one kernel row are neighbors there.
#pragma once

#include <algorithm>
#include <type_traits>

#include "activation.h"
#include "lanes.h"
#include "scratch.h"
#include "kernels.h"
#include "parallel.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::FirstStage;
using convscope::kAverage;
using convscope::kMax;
using convscope::kMin;
using convscope::kNoPool;
using convscope::Pool;

#define CONVSCOPE_INLINE inline __attribute__((always_inline))

constexpr bool kManyRegisters = kWidth == 16;  // 32 registers, else 16

// Registers of filters per tile at most, and pooling windows per tile: at least 8 sums hide the multiply-add's latency.
constexpr int most_registers(int size) {
  if (size > 3) return 1;
  return (size > 2 ? 1 : 2) * (kManyRegisters ? 2 : 1);
}
constexpr int windows_per_tile(int size, int registers, bool held) {
  const int sums = kManyRegisters && !held ? 16 : 8;
  return std::clamp(sums / (size * size * registers), 1, 8);
}

struct Padded {  // an image with its zeros: rows of `row` floats
  const float* pixels;
  int64_t row;
};

// The image itself where nothing is padded, else a copy that lives until the thread's next call.
inline Padded pad(const FirstStage& s, int64_t image) {
  const float* from = s.x + image * s.h * s.w * s.c;
  if (s.top + s.bottom + s.left + s.right == 0) return {from, s.w * s.c};
  const int64_t row = (s.left + s.w + s.right) * s.c, rows = s.top + s.h + s.bottom;
  static thread_local Scratch memory;
  float* const buffer = memory.get(rows * row);
  float* to = buffer;
  to = std::fill_n(to, s.top * row, 0.0f);
  for (int64_t y = 0; y < s.h; ++y) {
    to = std::fill_n(to, s.left * s.c, 0.0f);
    to = std::copy_n(from + y * s.w * s.c, s.w * s.c, to);
    to = std::fill_n(to, s.right * s.c, 0.0f);
  }
  std::fill_n(to, s.bottom * row, 0.0f);
  return {buffer, row};
}

// Filters in blocks of registers: each block is (1 + k * k * c, registers * kWidth), row 0 the bias. One that starts at
// register `first` starts at first * kWidth * (1 + k * k * c), whatever the sizes of the blocks before it.
struct Blocks {
  int64_t registers, rows;
  int most;

  Blocks(const FirstStage& s, int most_per_block)
      : registers((s.filters + kWidth - 1) / kWidth), rows(1 + s.k * s.k * s.c), most(most_per_block) {}
  int64_t floats() const { return registers * kWidth * rows; }
  int64_t offset(int64_t first) const { return first * kWidth * rows; }
  int size(int64_t first) const {
    const int64_t left = registers - first;
    return left >= most ? most : left >= 2 ? 2 : 1;
  }
  // Calls body(filter, tap, float of the packed block) for every number; tap -1 is the bias.
  template <class Body>
  void each(const FirstStage& s, Body&& body) const {
    for (int64_t first = 0; first < registers; first += size(first))
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t lane = 0; lane < size(first) * kWidth; ++lane)
          if (const int64_t filter = first * kWidth + lane; filter < s.filters)
            body(filter, row - 1, offset(first) + row * size(first) * kWidth + lane);
  }
};

inline int64_t weight_place(const FirstStage& s, const int64_t (&strides)[4], int64_t filter, int64_t tap) {
  const int64_t channel = tap % s.c, x = tap / s.c % s.k, y = tap / s.c / s.k;
  return filter * strides[0] + channel * strides[1] + y * strides[2] + x * strides[3];
}

inline void pack(const FirstStage& s, const Blocks& blocks, float* packed) {
  std::fill_n(packed, blocks.floats(), 0.0f);
  blocks.each(s, [&](int64_t filter, int64_t tap, int64_t place) {
    if (tap >= 0) packed[place] = s.weight[weight_place(s, s.weight_strides, filter, tap)];
    else if (s.bias) packed[place] = s.bias[filter];
  });
}

// One row of pooled cells for one block of filters.
struct Row {
  const float* x;        // the first window's first pixel
  int64_t row;           // floats per row of pixels
  const float* weights;  // a packed block
  int64_t k, c, cells;   // cells: in the pooled row
  int64_t filters;       // floats from cell to cell of y
  int lanes;             // of the block's last register
  Activation function;
  Pool kind;
  bool half;
  void* y;
  uint8_t* winner;
};

template <int kRegisters>
CONVSCOPE_INLINE void write(const Row& r, int64_t cell, const Vec (&values)[kRegisters]) {
  for (int i = 0; i < kRegisters; ++i) {
    const int lanes = i + 1 < kRegisters ? kWidth : r.lanes;
    const int64_t place = cell * r.filters + i * kWidth;
    if (r.half) store_lanes(static_cast<bf16*>(r.y) + place, values[i], lanes);
    else store_lanes(static_cast<float*>(r.y) + place, values[i], lanes);
  }
}

// What has won so far: values, and which cells of the window they are.
struct Best {
  Vec value;
  IntVec cell;
};

// The larger one, of equal ones the earlier, of NaN the later, as torch does.
CONVSCOPE_INLINE Best larger(const Best& early, const Best& late) {
#if defined(__AVX512F__)
  const __m512 a = (__m512)early.value, b = (__m512)late.value;
  const __mmask16 wins = _mm512_cmp_ps_mask(b, a, _CMP_GT_OQ) | _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q);
  return {(Vec)_mm512_mask_mov_ps(a, wins, b),
          (IntVec)_mm512_mask_mov_epi32((__m512i)early.cell, wins, (__m512i)late.cell)};
#else
  const IntVec wins = (late.value > early.value) | (late.value != late.value);
  return {select(wins, late.value, early.value), (early.cell & ~wins) | (late.cell & wins)};
#endif
}

template <int kFirst, int kCount, int kRegisters>
CONVSCOPE_INLINE Best largest(const Vec (*sums)[kRegisters], int i) {
  if constexpr (kCount == 1) return {sums[kFirst][i], IntVec{} + kFirst};
  else
    return larger(largest<kFirst, kCount / 2, kRegisters>(sums, i),
                  largest<kFirst + kCount / 2, kCount - kCount / 2, kRegisters>(sums, i));
}

// A copy is sent, so that the sums themselves may stay in registers.
template <int kCells, int kRegisters>
CONVSCOPE_INLINE void activate_far(Vec (*sums)[kCells][kRegisters], int windows, Activation function) {
  constexpr int kWindow = kCells * kRegisters;
  Vec copy[8 * kWindow];
  for (int at = 0; at < windows * kWindow; ++at)
    copy[at] = sums[at / kWindow][at / kRegisters % kCells][at % kRegisters];
  activate_all(copy, windows * kWindow, function);
  for (int at = 0; at < windows * kWindow; ++at)
    sums[at / kWindow][at / kRegisters % kCells][at % kRegisters] = copy[at];
}

// Max or min, with its winner. ReLU and tanh never fall, so that they may come after it.
template <int kCells, int kRegisters>
CONVSCOPE_INLINE void finish_extreme(const Row& r, int64_t cell, Vec (&sums)[kCells][kRegisters]) {
  Vec pooled[1][1][kRegisters];
  if (r.kind == kMin)
    for (auto& sum : sums)
      for (Vec& v : sum) v = -v;
#pragma GCC unroll 4
  for (int i = 0; i < kRegisters; ++i) {
    Best best = largest<0, kCells, kRegisters>(sums, i);
    if (r.kind == kMin) best.value = -best.value;
    if (r.function == kRelu) {
      const auto closed = best.value <= 0.0f;
      best.value = closed ? Vec{} : best.value;
      best.cell = closed ? IntVec{} + FirstStage::kNoWinner : best.cell;
    }
    pooled[0][0][i] = best.value;
    if (r.winner)
      store_bytes(r.winner + cell * r.filters + i * kWidth, best.cell, i + 1 < kRegisters ? kWidth : r.lanes);
  }
  if (r.function == kTanh) activate_far(pooled, 1, r.function);
  write(r, cell, pooled[0][0]);
}

template <int kCells, int kRegisters>
CONVSCOPE_INLINE void finish_average(const Row& r, int64_t cell, Vec (&sums)[kCells][kRegisters]) {
  if (r.function == kRelu) {
    for (auto& sum : sums)
      for (Vec& v : sum) v = activate(v, kRelu);
  }
  Vec pooled[kRegisters];
  for (int i = 0; i < kRegisters; ++i) {
    pooled[i] = sums[0][i];
    for (int q = 1; q < kCells; ++q) pooled[i] += sums[q][i];
    if (kCells > 1) pooled[i] *= 1.0f / kCells;
  }
  write(r, cell, pooled);
}

// kK and kC: the kernel's size and the channels, where known when compiled, else 0.
// Small kernels fit into registers: then each pixel is loaded once per tile and goes to every sum it belongs to.
constexpr bool in_registers(int registers, int k, int c) {
  return kManyRegisters && k > 0 && k * k * c * registers <= 18;
}

template <int kSize, int kRegisters, int kWindows, int kK, int kC>
CONVSCOPE_INLINE void add_pixels(const float* corner, int64_t row, const Vec (&weights)[kK * kK * kC][kRegisters],
                                 Vec (&sums)[kWindows][kSize * kSize][kRegisters]) {
#pragma GCC unroll 16
  for (int y = 0; y < kSize + kK - 1; ++y)
#pragma GCC unroll 64
    for (int j = 0; j < (kSize * kWindows + kK - 1) * kC; ++j) {
      const Vec pixel = all(corner[y * row + j]);
#pragma GCC unroll 64
      for (int at = 0; at < kWindows * kSize * kSize; ++at) {  // the cell (cy, cx) of the tile
        const int cy = at / (kWindows * kSize), cx = at % (kWindows * kSize), ky = y - cy, kj = j - cx * kC;
        if (ky < 0 || ky >= kK || kj < 0 || kj >= kK * kC) continue;
#pragma GCC unroll 4
        for (int i = 0; i < kRegisters; ++i)
          sums[cx / kSize][cy * kSize + cx % kSize][i] += pixel * weights[ky * kK * kC + kj][i];
      }
    }
}

template <int kSize, int kRegisters, int kWindows, int kK, int kC>
CONVSCOPE_INLINE void add_taps(const Row& r, const float* corner, Vec (&sums)[kWindows][kSize * kSize][kRegisters]) {
  const int64_t k = kK ? kK : r.k, c = kC ? kC : r.c, row = r.row;
  const float* weights = r.weights + kRegisters * kWidth;
  const auto tap = [&](const float* x) __attribute__((always_inline)) {
    Vec weight[kRegisters];
    for (int i = 0; i < kRegisters; ++i) weight[i] = load(weights + i * kWidth);
#pragma GCC unroll 16
    for (int window = 0; window < kWindows; ++window)
#pragma GCC unroll 16
      for (int q = 0; q < kSize * kSize; ++q) {
        const Vec pixel = all(x[q / kSize * row + (window * kSize + q % kSize) * c]);
#pragma GCC unroll 4
        for (int i = 0; i < kRegisters; ++i) sums[window][q][i] += pixel * weight[i];
      }
    weights += kRegisters * kWidth;
  };
  if constexpr (kK > 0) {
#pragma GCC unroll 8
    for (int y = 0; y < kK; ++y)
#pragma GCC unroll 16
      for (int j = 0; j < kK * kC; ++j) tap(corner + y * row + j);
  } else {
    for (int64_t y = 0; y < k; ++y)
      for (int64_t j = 0; j < k * c; ++j) tap(corner + y * row + j);
  }
}

// The tiles of one row of pooled cells.
template <int kSize, int kRegisters, int kK, int kC, bool kExtreme>
void forward_row(const Row& r) {
  constexpr bool kHeld = in_registers(kRegisters, kK, kC);
  constexpr int kCells = kSize * kSize, kWindows = windows_per_tile(kSize, kRegisters, kHeld);
  constexpr int kTaps = kHeld ? kK * kK * kC : 1;
  const int64_t c = kC ? kC : r.c;
  Vec bias[kRegisters], held[kTaps][kRegisters];
  for (int i = 0; i < kRegisters; ++i) bias[i] = load(r.weights + i * kWidth);
  if constexpr (kHeld)
    for (int tap = 0; tap < kTaps; ++tap)
      for (int i = 0; i < kRegisters; ++i) held[tap][i] = load(r.weights + ((tap + 1) * kRegisters + i) * kWidth);
  const auto tile = [&]<int kHere>(std::integral_constant<int, kHere>, int64_t cell) __attribute__((always_inline)) {
    Vec sums[kHere][kCells][kRegisters];
    for (auto& window : sums)
      for (auto& sum : window)
        for (int i = 0; i < kRegisters; ++i) sum[i] = bias[i];
    const float* corner = r.x + cell * kSize * c;
    if constexpr (kHeld) add_pixels<kSize, kRegisters, kHere, kK, kC>(corner, r.row, held, sums);
    else add_taps<kSize, kRegisters, kHere, kK, kC>(r, corner, sums);
    const bool far = r.function == kGelu || (r.function == kTanh && !kExtreme);
    if (far) activate_far(sums, kHere, r.function);
    for (int window = 0; window < kHere; ++window) {
      if constexpr (kExtreme) finish_extreme(r, cell + window, sums[window]);
      else finish_average(r, cell + window, sums[window]);
    }
  };
  int64_t cell = 0;
  for (; cell + kWindows <= r.cells; cell += kWindows) tile(std::integral_constant<int, kWindows>{}, cell);
  if constexpr (kWindows > 1) {
    if (kWindows > 2 && r.cells - cell > kWindows / 2 && r.cells >= kWindows)  // the last tile again, further left
      return tile(std::integral_constant<int, kWindows>{}, r.cells - kWindows);
    for (; cell < r.cells; ++cell) tile(std::integral_constant<int, 1>{}, cell);
  }
}

using RowFunction = void (*)(const Row&);

template <int kSize, int kRegisters, bool kExtreme>
RowFunction row_function(int64_t k, int64_t c) {
  if (k == 3 && c == 1) return forward_row<kSize, kRegisters, 3, 1, kExtreme>;
  if constexpr (kSize <= 2) {
    if (k == 5 && c == 1) return forward_row<kSize, kRegisters, 5, 1, kExtreme>;
    if (k == 2 && c == 3) return forward_row<kSize, kRegisters, 2, 3, kExtreme>;
    if (k == 3 && c == 3) return forward_row<kSize, kRegisters, 3, 3, kExtreme>;
    if (k == 3 && c == 4) return forward_row<kSize, kRegisters, 3, 4, kExtreme>;
  }
  return forward_row<kSize, kRegisters, 0, 0, kExtreme>;
}

template <int kSize, bool kExtreme>
RowFunction row_function(int registers, int64_t k, int64_t c) {
  if constexpr (most_registers(kSize) >= 4)
    if (registers == 4) return row_function<kSize, 4, kExtreme>(k, c);
  if constexpr (most_registers(kSize) >= 2)
    if (registers == 2) return row_function<kSize, 2, kExtreme>(k, c);
  return row_function<kSize, 1, kExtreme>(k, c);
}

inline RowFunction row_function(int64_t size, bool extreme, int registers, int64_t k, int64_t c) {
  switch (size) {
    case 1: return row_function<1, false>(registers, k, c);
    case 2: return extreme ? row_function<2, true>(registers, k, c) : row_function<2, false>(registers, k, c);
    case 3: return extreme ? row_function<3, true>(registers, k, c) : row_function<3, false>(registers, k, c);
    default: return extreme ? row_function<4, true>(registers, k, c) : row_function<4, false>(registers, k, c);
  }
}

inline Row row_of(const FirstStage& s, const Blocks& blocks, const float* packed, int64_t first) {
  const int64_t lanes = std::min<int64_t>(s.filters - (first + blocks.size(first) - 1) * kWidth, kWidth);
  return {nullptr, 0, packed + blocks.offset(first), s.k, s.c, s.ow(), s.filters, int(lanes),
          s.function, s.kind, s.half, nullptr, nullptr};
}

inline void forward_image(const FirstStage& s, const Blocks& blocks, const float* packed, int64_t image) {
  const Padded padded = pad(s, image);
  const int64_t rows = s.oh(), per_row = s.ow() * s.filters;
  for (int64_t first = 0; first < blocks.registers; first += blocks.size(first)) {
    const RowFunction run = row_function(s.size, s.has_winner(), blocks.size(first), s.k, s.c);
    Row r = row_of(s, blocks, packed, first);
    r.row = padded.row;
    for (int64_t y = 0; y < rows; ++y) {
      const int64_t place = (image * rows + y) * per_row + first * kWidth;
      r.x = padded.pixels + y * s.size * padded.row;
      r.y = static_cast<char*>(s.y) + place * (s.half ? 2 : 4);
      r.winner = s.winner ? s.winner + place : nullptr;
      run(r);
    }
  }
}

inline void first_stage_forward(const FirstStage& s) {
  constexpr int64_t kImages = 2;  // per chunk: small ones keep all threads busy to the end
  const Blocks blocks(s, most_registers(int(s.size)));
  static thread_local Scratch memory;
  float* const weights = memory.get(blocks.floats());  // this thread's, for all
  pack(s, blocks, weights);
  convscope::parallel_for((s.n + kImages - 1) / kImages, [&](int64_t chunk) {
    for (int64_t image = chunk * kImages; image < std::min(s.n, (chunk + 1) * kImages); ++image)
      forward_image(s, blocks, weights, image);
  });
}

}  // namespace CONVSCOPE_NAMESPACE
