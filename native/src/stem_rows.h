// The rows of the stem: convolution, bias, activation and pooling of one row of pooled cells.
//
// Filters run across the lanes. A tile is the cells of one or more pooling windows times kRegisters registers of
// filters; its sums stay in registers until the pooled cell is written. Images are padded once, into a buffer in the L1
// cache, in which the kernel_size * c numbers of one kernel row are contiguous.
#pragma once

#include <algorithm>
#include <type_traits>

#include "activation.h"
#include "lanes.h"
#include "stem_pack.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::kAverage;
using convscope::kMax;
using convscope::kMin;
using convscope::kNoArgmax;
using convscope::Pool;

#define CONVSCOPE_INLINE inline __attribute__((always_inline))

constexpr bool kManyRegisters = kWidth == 16;  // 32 registers, else 16

// The registers of filters and the pooling windows of a tile: at least 8 sums hide the latency of a multiply-add.
constexpr int max_registers(int pool_size) {
  if (pool_size > 3) return 1;
  return (pool_size > 2 ? 1 : 2) * (kManyRegisters ? 2 : 1);
}
constexpr int windows_per_tile(int pool_size, int registers, bool weights_in_registers) {
  const int sums = kManyRegisters && !weights_in_registers ? 16 : 8;
  return std::clamp(sums / (pool_size * pool_size * registers), 1, 8);
}

// One row of pooled cells of one block of filters.
struct Row {
  const float* x;        // the first pixel of the first window
  int64_t row;           // floats per row of pixels
  const float* weights;  // a packed block
  int64_t kernel_size, c;
  int64_t cells;   // in the pooled row
  int64_t stride;  // floats from cell to cell of y
  int lanes;       // in use in the last register of the block
  Activation activation;
  Pool pool;
  bool bf16;
  void* y;
  uint8_t* argmax;
};

template <int kRegisters>
CONVSCOPE_INLINE void write(const Row& r, int64_t cell, const Vec (&values)[kRegisters]) {
  for (int i = 0; i < kRegisters; ++i) {
    const int lanes = i + 1 < kRegisters ? kWidth : r.lanes;
    const int64_t at = cell * r.stride + i * kWidth;
    if (r.bf16)
      store_lanes(static_cast<bf16*>(r.y) + at, values[i], lanes);
    else
      store_lanes(static_cast<float*>(r.y) + at, values[i], lanes);
  }
}

// The largest values so far, and the indices of their cells in the window.
struct Largest {
  Vec value;
  IntVec cell;
};

// The larger of two; the earlier of equal values and the later of NaN, as in PyTorch.
CONVSCOPE_INLINE Largest larger(const Largest& early, const Largest& late) {
#if defined(__AVX512F__)
  const __m512 a = (__m512)early.value, b = (__m512)late.value;
  const __mmask16 later = _mm512_cmp_ps_mask(b, a, _CMP_GT_OQ) | _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q);
  return {(Vec)_mm512_mask_mov_ps(a, later, b),
          (IntVec)_mm512_mask_mov_epi32((__m512i)early.cell, later, (__m512i)late.cell)};
#else
  const IntVec later = (late.value > early.value) | (late.value != late.value);
  return {select(later, late.value, early.value), (early.cell & ~later) | (late.cell & later)};
#endif
}

template <int kFirst, int kCount, int kRegisters>
CONVSCOPE_INLINE Largest largest(const Vec (*sums)[kRegisters], int i) {
  if constexpr (kCount == 1)
    return {sums[kFirst][i], IntVec{} + kFirst};
  else
    return larger(largest<kFirst, kCount / 2, kRegisters>(sums, i),
                  largest<kFirst + kCount / 2, kCount - kCount / 2, kRegisters>(sums, i));
}

// ReLU is a single instruction in place; the others are function calls.
constexpr bool is_activated_by_call(Activation activation) { return activation != kNone && activation != kRelu; }

// By a function call, on a copy, so that the sums themselves can stay in registers.
template <int kCells, int kRegisters>
CONVSCOPE_INLINE void activate_by_call(Vec (*sums)[kCells][kRegisters], int windows, Activation activation) {
  constexpr int kWindow = kCells * kRegisters;
  Vec copy[8 * kWindow];
  for (int at = 0; at < windows * kWindow; ++at)
    copy[at] = sums[at / kWindow][at / kRegisters % kCells][at % kRegisters];
  activate_all(copy, windows * kWindow, activation);
  for (int at = 0; at < windows * kWindow; ++at)
    sums[at / kWindow][at / kRegisters % kCells][at % kRegisters] = copy[at];
}

// Max or min pooling, with its argmax. A monotone activation comes after it, others have come before it.
template <int kCells, int kRegisters>
CONVSCOPE_INLINE void finish_extreme(const Row& r, int64_t cell, Vec (&sums)[kCells][kRegisters]) {
  Vec pooled[1][1][kRegisters];
  if (r.pool == kMin)
    for (int q = 0; q < kCells; ++q)
      for (int i = 0; i < kRegisters; ++i) sums[q][i] = -sums[q][i];
#pragma GCC unroll 4
  for (int i = 0; i < kRegisters; ++i) {
    Largest best = largest<0, kCells, kRegisters>(sums, i);
    if (r.pool == kMin) best.value = -best.value;
    if (r.activation == kRelu) {
      const auto closed = best.value <= 0.0f;
      best.value = closed ? Vec{} : best.value;
      best.cell = closed ? IntVec{} + kNoArgmax : best.cell;
    }
    pooled[0][0][i] = best.value;
    if (r.argmax)
      store_bytes(r.argmax + cell * r.stride + i * kWidth, best.cell, i + 1 < kRegisters ? kWidth : r.lanes);
  }
  if (is_activated_by_call(r.activation) && convscope::is_monotone(r.activation))
    activate_by_call(pooled, 1, r.activation);
  write(r, cell, pooled[0][0]);
}

template <int kCells, int kRegisters>
CONVSCOPE_INLINE void finish_average(const Row& r, int64_t cell, Vec (&sums)[kCells][kRegisters]) {
  if (r.activation == kRelu) {
    for (int q = 0; q < kCells; ++q)
      for (int i = 0; i < kRegisters; ++i) sums[q][i] = Function<kRelu>::value(sums[q][i]);
  }
  Vec pooled[kRegisters];
  for (int i = 0; i < kRegisters; ++i) {
    pooled[i] = sums[0][i];
    for (int q = 1; q < kCells; ++q) pooled[i] += sums[q][i];
    if (kCells > 1) pooled[i] *= 1.0f / kCells;
  }
  write(r, cell, pooled);
}

// kK and kC: the kernel size and the number of channels if known at compile time, else 0.
// The weights of small kernels fit into registers: then each pixel is loaded once per tile and added to all its sums.
constexpr bool in_registers(int registers, int kernel_size, int c) {
  return kManyRegisters && kernel_size > 0 && kernel_size * kernel_size * c * registers <= 18;
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
  const int64_t k = kK ? kK : r.kernel_size, c = kC ? kC : r.c, row = r.row;
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
  const bool before_pool = is_activated_by_call(r.activation) && !(kExtreme && convscope::is_monotone(r.activation));
  Vec bias[kRegisters], held[kTaps][kRegisters];
  for (int i = 0; i < kRegisters; ++i) bias[i] = load(r.weights + i * kWidth);
  if constexpr (kHeld)
    for (int tap = 0; tap < kTaps; ++tap)
      for (int i = 0; i < kRegisters; ++i) held[tap][i] = load(r.weights + ((tap + 1) * kRegisters + i) * kWidth);
  const auto tile = [&]<int kHere>(std::integral_constant<int, kHere>, int64_t cell) __attribute__((always_inline)) {
    Vec sums[kHere][kCells][kRegisters];
    for (int at = 0; at < kHere * kCells; ++at)
      for (int i = 0; i < kRegisters; ++i) sums[at / kCells][at % kCells][i] = bias[i];
    const float* corner = r.x + cell * kSize * c;
    if constexpr (kHeld)
      add_pixels<kSize, kRegisters, kHere, kK, kC>(corner, r.row, held, sums);
    else
      add_taps<kSize, kRegisters, kHere, kK, kC>(r, corner, sums);
    if (before_pool) activate_by_call(sums, kHere, r.activation);
    for (int window = 0; window < kHere; ++window) {
      if constexpr (kExtreme)
        finish_extreme(r, cell + window, sums[window]);
      else
        finish_average(r, cell + window, sums[window]);
    }
  };
  int64_t cell = 0;
  for (; cell + kWindows <= r.cells; cell += kWindows) tile(std::integral_constant<int, kWindows>{}, cell);
  if constexpr (kWindows > 1) {
    if (kWindows > 2 && r.cells - cell > kWindows / 2 && r.cells >= kWindows)  // a last tile that overlaps
      return tile(std::integral_constant<int, kWindows>{}, r.cells - kWindows);
    for (; cell < r.cells; ++cell) tile(std::integral_constant<int, 1>{}, cell);
  }
}

using RowFunction = void (*)(const Row&);

template <int kSize, int kRegisters, bool kExtreme>
RowFunction row_function(int64_t kernel_size, int64_t c) {
  if (kernel_size == 3 && c == 1) return forward_row<kSize, kRegisters, 3, 1, kExtreme>;
  if constexpr (kSize <= 2) {
    if (kernel_size == 5 && c == 1) return forward_row<kSize, kRegisters, 5, 1, kExtreme>;
    if (kernel_size == 2 && c == 3) return forward_row<kSize, kRegisters, 2, 3, kExtreme>;
    if (kernel_size == 3 && c == 3) return forward_row<kSize, kRegisters, 3, 3, kExtreme>;
    if (kernel_size == 3 && c == 4) return forward_row<kSize, kRegisters, 3, 4, kExtreme>;
  }
  return forward_row<kSize, kRegisters, 0, 0, kExtreme>;
}

template <int kSize, bool kExtreme>
RowFunction row_function(int registers, int64_t kernel_size, int64_t c) {
  if constexpr (max_registers(kSize) >= 4)
    if (registers == 4) return row_function<kSize, 4, kExtreme>(kernel_size, c);
  if constexpr (max_registers(kSize) >= 2)
    if (registers == 2) return row_function<kSize, 2, kExtreme>(kernel_size, c);
  return row_function<kSize, 1, kExtreme>(kernel_size, c);
}

inline RowFunction row_function(int64_t pool_size, bool extreme, int registers, int64_t kernel_size, int64_t c) {
  switch (pool_size) {
    case 1: return row_function<1, false>(registers, kernel_size, c);
    case 2:
      return extreme ? row_function<2, true>(registers, kernel_size, c)
                     : row_function<2, false>(registers, kernel_size, c);
    case 3:
      return extreme ? row_function<3, true>(registers, kernel_size, c)
                     : row_function<3, false>(registers, kernel_size, c);
    default:
      return extreme ? row_function<4, true>(registers, kernel_size, c)
                     : row_function<4, false>(registers, kernel_size, c);
  }
}

inline Row row_of(const ConvActPool& job, const Blocks& blocks, const float* packed, int64_t first) {
  const int64_t lanes = std::min<int64_t>(job.filters - (first + blocks.size(first) - 1) * kWidth, kWidth);
  Row row{};
  row.weights = packed + blocks.offset(first);
  row.kernel_size = job.kernel_size;
  row.c = job.c;
  row.cells = job.ow();
  row.stride = job.filters;
  row.lanes = int(lanes);
  row.activation = job.activation;
  row.pool = job.pool;
  row.bf16 = job.bf16;
  return row;
}

}  // namespace CONVSCOPE_NAMESPACE
