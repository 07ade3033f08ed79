// One register tile for all matrix products: a broadcast word of the "rows" operand times a register of words of the
// "columns" operand; and the packing of both. A word has 32 bits: one float32, or (Bf16Words with AVX512-BF16) two bf16
// that are neighbors in the direction of the sum.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "vec.h"

namespace CONVSCOPE_NAMESPACE {
namespace dense {

#if defined(__AVX512F__)
constexpr int kRows = 13;  // 26 sums, 2 registers of columns and 1 broadcast word: 29 of 32 registers
#else
constexpr int kRows = 6;  // 12 sums of 16 registers
#endif
constexpr int kPanel = 2 * kWidth;       // columns of a tile
constexpr int64_t kBlock = 128;          // contiguous words of a packed row
constexpr int64_t kPitch = kBlock + 16;  // words from packed row to packed row: an odd number of cache lines

inline int64_t blocks(int64_t total, int64_t size) { return (total + size - 1) / size; }
inline int64_t round_up(int64_t total, int64_t unit) { return blocks(total, unit) * unit; }

using Lanes = std::make_integer_sequence<int, kWidth>;

template <int... Lane>
inline Vec broadcast(float word, std::integer_sequence<int, Lane...>) {
  return Vec{(static_cast<void>(Lane), word)...};  // moves bits: a word may be two bf16
}

template <class T>
inline Vec load_part(const T* from, int64_t count) {  // 0 beyond count, which may be negative
  if (count >= kWidth) return load(from);
  T part[kWidth] = {};
  for (int64_t lane = 0; lane < count; ++lane) part[lane] = from[lane];
  return load(part);
}

template <class T>
inline void store_part(T* to, Vec value, int64_t count) {
  if (count >= kWidth) return store(to, value);
  T part[kWidth];
  store(part, value);
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = part[lane];
}

template <int Step, int... Lane>
inline void swap_corners(Vec& a, Vec& b, std::integer_sequence<int, Lane...>) {
  const Vec upper = __builtin_shufflevector(a, b, (Lane & Step ? kWidth + Lane - Step : Lane)...);
  b = __builtin_shufflevector(a, b, (Lane & Step ? kWidth + Lane : Lane + Step)...);
  a = upper;
}

template <int Step = kWidth / 2>
inline void transpose(Vec (&square)[kWidth]) {
#pragma GCC unroll 16
  for (int row = 0; row < kWidth; ++row)
    if (!(row & Step)) swap_corners<Step>(square[row], square[row + Step], Lanes{});
  if constexpr (Step > 1) transpose<Step / 2>(square);
}

struct FloatWords {
  static constexpr int64_t kDepth = 1;  // numbers per word
  template <class T>
  static Vec along(const T* from, int64_t count) {
    return load_part(from, count);
  }
  static Vec across(Vec even, Vec) { return even; }
  static void multiply_add(Vec& sum, Vec a, Vec b) { sum += a * b; }
};

#if defined(__AVX512BF16__)
struct Bf16Words {
  static constexpr int64_t kDepth = 2;
  static Vec join(Vec low, Vec high) { return (Vec)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low); }
  template <class T>
  static Vec along(const T* from, int64_t count) {
    return join(load_part(from, count), load_part(from + kWidth, count - kWidth));
  }
  template <int... Lane>
  static Vec interleave(Vec pair, std::integer_sequence<int, Lane...>) {
    typedef uint16_t Wide __attribute__((vector_size(4 * kWidth)));
    const Wide bits = (Wide)pair;
    return (Vec)__builtin_shufflevector(bits, bits, (Lane / 2 + (Lane & 1 ? kWidth : 0))...);
  }
  static Vec across(Vec even, Vec odd) {
    return interleave(join(even, odd), std::make_integer_sequence<int, 2 * kWidth>{});
  }
  static void multiply_add(Vec& sum, Vec a, Vec b) {
    sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
  }
};
#else
struct Bf16Words : FloatWords {  // rounded to bf16, stored as float32
  static Vec round(Vec value) {
    bf16 part[kWidth];
    store(part, value);
    return load(part);
  }
  template <class T>
  static Vec along(const T* from, int64_t count) {
    return round(load_part(from, count));
  }
  static Vec across(Vec even, Vec) { return round(even); }
};
#endif

// ---- packing -------------------------------------------------------------------------------------------------------

// rows x depth numbers -> [block of kBlock words][row][kPitch]
template <class Words, class T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t depth, float* to) {
  constexpr int64_t kStep = kWidth * Words::kDepth;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t k = 0; k < depth; k += kStep) {
      const int64_t word = k / Words::kDepth;
      float* const at = to + (word / kBlock * rows + row) * kPitch + word % kBlock;
      store(at, Words::along(from + row * stride + k, depth - k));
    }
}

// columns x depth numbers, at most vectors * kWidth columns -> [word][column]
template <class Words, class T>
void pack_transposed(const T* from, int64_t stride, int64_t columns, int64_t depth, int vectors, float* to) {
  for (int64_t column = 0; column < vectors * kWidth; column += kWidth)
    for (int64_t k = 0; k < depth; k += kWidth * Words::kDepth) {
      Vec square[kWidth];
#pragma GCC unroll 16
      for (int lane = 0; lane < kWidth; ++lane)
        square[lane] = column + lane < columns ? Words::along(from + (column + lane) * stride + k, depth - k) : Vec{};
      transpose(square);
      float* const word = to + k / Words::kDepth * vectors * kWidth + column;
#pragma GCC unroll 16
      for (int lane = 0; lane < kWidth; ++lane) store(word + lane * vectors * kWidth, square[lane]);
    }
}

// depth x columns numbers -> [panel][word][column of the panel]; the last panel may have one register only
template <class Words, class T>
void pack_columns(const T* from, int64_t stride, int64_t depth, int64_t columns, float* to) {
  constexpr int64_t kAhead = 8;  // words
  const int64_t words = blocks(depth, Words::kDepth), vectors = blocks(columns, kWidth);
  for (int64_t word = 0; word < words; ++word) {
    const T* const even = from + word * Words::kDepth * stride;
    const bool pair = (word + 1) * Words::kDepth <= depth;
    if (word + kAhead + 1 < words)  // rows are pages apart, which defeats the hardware prefetcher
      for (int64_t part = 0; part < Words::kDepth; ++part)
        for (int64_t column = 0; column < columns; column += 64 / int64_t(sizeof(T)))
          __builtin_prefetch(even + (kAhead * Words::kDepth + part) * stride + column);
    for (int64_t vector = 0; vector < vectors; ++vector) {
      const int64_t at = vector * kWidth, width = vector / 2 * 2 + 1 < vectors ? 2 : 1;
      const Vec odd = Words::kDepth == 2 && pair ? load_part(even + stride + at, columns - at) : Vec{};
      store(to + vector / 2 * words * kPanel + (word * width + vector % 2) * kWidth,
            Words::across(load_part(even + at, columns - at), odd));
    }
  }
}

// ---- the tile ------------------------------------------------------------------------------------------------------

// Packed rows: `count` of them, in blocks of kBlock words that are `step` floats apart.
struct Rows {
  const float* words;
  int64_t count, step;
};

// One packed panel: `depth` words of `vectors` registers.
struct Panel {
  const float* words;
  int64_t depth;
  int vectors;
};

// The product is stored to `to`, rows `stride` numbers apart, or added to what is there.
template <class T>
struct Target {
  T* to;
  int64_t stride;
  bool add;
};

// target (kCount, kVectors * kWidth) = rows (kCount, depth) times panel (depth, kVectors * kWidth)
template <class Words, class T, int kVectors, int kCount>
void tile(const float* rows, int64_t step, const Panel& panel, const Target<T>& target) {
  Vec sums[kCount][kVectors] = {};
  T* const to = target.to;
  const int64_t stride = target.stride, depth = panel.depth;
  const float* words = panel.words;
  if (target.add)
#pragma GCC unroll 16
    for (int row = 0; row < kCount; ++row)
#pragma GCC unroll 2
      for (int vector = 0; vector < kVectors; ++vector) sums[row][vector] = load(to + row * stride + vector * kWidth);
  for (int64_t first = 0; first < depth; first += kBlock, rows += step) {
    const int64_t count = std::min(kBlock, depth - first);
    for (int64_t word = 0; word < count; ++word) {
      Vec columns[kVectors];
#pragma GCC unroll 2
      for (int vector = 0; vector < kVectors; ++vector) columns[vector] = load(words + vector * kWidth);
#pragma GCC unroll 16
      for (int row = 0; row < kCount; ++row) {
        const Vec factor = broadcast(rows[row * kPitch + word], Lanes{});
#pragma GCC unroll 2
        for (int vector = 0; vector < kVectors; ++vector)
          Words::multiply_add(sums[row][vector], factor, columns[vector]);
      }
      words += kVectors * kWidth;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kCount; ++row)
#pragma GCC unroll 2
    for (int vector = 0; vector < kVectors; ++vector) store(to + row * stride + vector * kWidth, sums[row][vector]);
}

template <class T>
using Tile = void (*)(const float*, int64_t, const Panel&, const Target<T>&);

template <class Words, class T, int kVectors, int... Row>
inline Tile<T> tile_of(int rows, std::integer_sequence<int, Row...>) {
  static constexpr Tile<T> kTiles[] = {tile<Words, T, kVectors, Row + 1>...};
  return kTiles[rows - 1];
}

// target (rows, columns) = rows times panel, whose last register may be partly used
template <class Words, class T>
void multiply(const Rows& rows, const Panel& panel, const Target<T>& target, int64_t columns) {
  const int64_t tiles = blocks(rows.count, kRows);
  for (int64_t index = 0, row = 0; index < tiles; ++index) {
    const int64_t count = (rows.count - row) / (tiles - index);  // tiles of nearly equal height
    constexpr auto kCounts = std::make_integer_sequence<int, kRows>{};
    const Tile<T> run =
        panel.vectors == 2 ? tile_of<Words, T, 2>(count, kCounts) : tile_of<Words, T, 1>(count, kCounts);
    const float* const words = rows.words + row * kPitch;
    T* const to = target.to + row * target.stride;
    if (columns >= panel.vectors * kWidth) {
      run(words, rows.step, panel, {to, target.stride, target.add});
    } else {
      T part[kRows][kPanel] = {};
      for (int64_t line = 0; line < count && target.add; ++line)
        std::copy_n(to + line * target.stride, columns, part[line]);
      run(words, rows.step, panel, {part[0], kPanel, target.add});
      for (int64_t line = 0; line < count; ++line) std::copy_n(part[line], columns, to + line * target.stride);
    }
    row += count;
  }
}

}  // namespace dense
}  // namespace CONVSCOPE_NAMESPACE
