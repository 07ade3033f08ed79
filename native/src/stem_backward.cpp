// The stem's gradients with respect to weight and bias.
//
// For each strip of pooled rows and each block of filters: first the gradients before the activation, into a buffer in
// the L1 cache; then their products with the pixels, a few taps of the kernel at a time, whose sums stay in registers.
// With 2 x 2 max or min pooling the argmax of each filter selects its pixel out of four, which takes one multiply-add
// per pooled cell; otherwise there is one per cell of the convolution.
#include "parallel.h"
#include "stem_rows.h"

namespace CONVSCOPE_NAMESPACE {

#if defined(__AVX2__)
constexpr bool kCanPick = true;  // each lane can select one of four numbers
#if defined(__AVX512F__)         // with masks of all lanes, because GCC 12 warns about the functions without a mask
CONVSCOPE_INLINE Vec quad(const float* from) { return (Vec)_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from)); }
CONVSCOPE_INLINE Vec pick(Vec quads, IntVec which) {
  return (Vec)_mm512_maskz_permutevar_ps(0xffff, (__m512)quads, (__m512i)which);
}
#else
CONVSCOPE_INLINE Vec quad(const float* from) { return (Vec)_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)); }
CONVSCOPE_INLINE Vec pick(Vec quads, IntVec which) { return (Vec)_mm256_permutevar_ps((__m256)quads, (__m256i)which); }
#endif
#else
constexpr bool kCanPick = false;
CONVSCOPE_INLINE Vec quad(const float*) { return Vec{}; }
CONVSCOPE_INLINE Vec pick(Vec, IntVec) { return Vec{}; }
#endif

// One strip of cells, whose products are added to the sums of one block of filters.
struct Strip {
  const float* pixels;   // the first pixel of the first cell; 4 floats per pixel when an argmax selects
  int64_t row, step;     // floats between vertical and horizontal neighbors
  int64_t tap_row;       // floats between rows of the kernel
  int64_t rows, cells;   // cells per row
  const Vec* gradient;   // (rows, cells, registers)
  const IntVec* argmax;  // like gradient, when an argmax selects
  float* sums;           // (taps, registers * kWidth)
  int64_t sums_per_row;  // taps per kernel row
};

// kRows x kColumns taps of the kernel from row `y` and column `j`; channels count as columns.
template <int kRegisters, int kRows, int kColumns, bool kPick>
void add_products(const Strip& s, int64_t y, int64_t j) {
  constexpr int kFloats = kPick ? 4 : 1;
  Vec sums[kRows][kColumns][kRegisters];
  float* to = s.sums + (y * s.sums_per_row + j) * kRegisters * kWidth;
  const int64_t to_row = s.sums_per_row * kRegisters * kWidth;
  for (int a = 0; a < kRows; ++a)
    for (int b = 0; b < kColumns; ++b)
      for (int i = 0; i < kRegisters; ++i) sums[a][b][i] = load(to + a * to_row + (b * kRegisters + i) * kWidth);
  const Vec* gradient = s.gradient;
  const IntVec* argmax = s.argmax;
  for (int64_t row = 0; row < s.rows; ++row) {
    const float* x = s.pixels + row * s.row + y * s.tap_row + j * kFloats;
    for (int64_t cell = 0; cell < s.cells; ++cell, x += s.step) {
      Vec g[kRegisters];
      IntVec w[kRegisters];
      for (int i = 0; i < kRegisters; ++i) {
        g[i] = *gradient++;
        if constexpr (kPick) w[i] = *argmax++;
      }
#pragma GCC unroll 4
      for (int a = 0; a < kRows; ++a)
#pragma GCC unroll 4
        for (int b = 0; b < kColumns; ++b) {
          const float* at = x + a * s.tap_row + b * kFloats;
          const Vec pixel = kPick ? quad(at) : all(*at);
#pragma GCC unroll 2
          for (int i = 0; i < kRegisters; ++i) sums[a][b][i] += (kPick ? pick(pixel, w[i]) : pixel) * g[i];
        }
    }
  }
  for (int a = 0; a < kRows; ++a)
    for (int b = 0; b < kColumns; ++b)
      for (int i = 0; i < kRegisters; ++i) store(to + a * to_row + (b * kRegisters + i) * kWidth, sums[a][b][i]);
}

template <int kRegisters, bool kPick>
void add_products(const Strip& s, int64_t kernel_size) {
  using Products = void (*)(const Strip&, int64_t, int64_t);
  constexpr int R = kRegisters;
  static constexpr Products functions[3][3] = {
      {add_products<R, 1, 1, kPick>, add_products<R, 1, 2, kPick>, add_products<R, 1, 3, kPick>},
      {add_products<R, 2, 1, kPick>, add_products<R, 2, 2, kPick>, add_products<R, 2, 3, kPick>},
      {add_products<R, 3, 1, kPick>, add_products<R, 3, 2, kPick>, add_products<R, 3, 3, kPick>}};
  const auto next = [](int64_t rest) { return rest == 4 ? 2 : std::min<int64_t>(rest, 3); };  // 4 = 2 + 2
  for (int64_t y = 0, rows; y < kernel_size; y += rows) {
    rows = next(kernel_size - y);
    for (int64_t j = 0, columns; j < s.sums_per_row; j += columns) {
      columns = next(s.sums_per_row - j);
      functions[rows - 1][columns - 1](s, y, j);
    }
  }
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
inline Four load_four(const float* from) { return *reinterpret_cast<const Four*>(from); }

// For each pixel except those of the last row and column: itself, its right neighbor, and the two below.
inline const float* quads_of(const Padded& padded, int64_t rows, int64_t c) {
  static thread_local Scratch memory;
  const int64_t row = padded.row;
  float* const buffer = memory.get(rows * row * 4);
  for (int64_t y = 0; y + 1 < rows; ++y) {
    const float *above = padded.pixels + y * row, *below = above + row;
    float* to = buffer + y * row * 4;
    int64_t j = 0;
    for (; j + c + 4 <= row; j += 4, to += 16) {  // a 4 x 4 transpose
      const Four a = load_four(above + j), b = load_four(above + j + c), d = load_four(below + j);
      const Four e = load_four(below + j + c);
      const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), de = __builtin_shufflevector(d, e, 0, 4, 1, 5);
      const Four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), de2 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
      const Four quads[4] = {__builtin_shufflevector(ab, de, 0, 1, 4, 5), __builtin_shufflevector(ab, de, 2, 3, 6, 7),
                             __builtin_shufflevector(ab2, de2, 0, 1, 4, 5),
                             __builtin_shufflevector(ab2, de2, 2, 3, 6, 7)};
      std::memcpy(to, quads, sizeof quads);
    }
    for (; j + c < row; ++j, to += 4) {
      to[0] = above[j];
      to[1] = above[j + c];
      to[2] = below[j];
      to[3] = below[j + c];
    }
  }
  return buffer;
}

// Buffers for one strip: its gradients, the slopes of the activation, and the argmax indices.
struct Buffers {
  Vec *gradient, *slopes;
  IntVec* argmax;
};

inline Buffers buffers(int64_t floats) {
  static thread_local Scratch gradient, slopes, argmax;
  return {reinterpret_cast<Vec*>(gradient.get(floats)), reinterpret_cast<Vec*>(slopes.get(floats)),
          reinterpret_cast<IntVec*>(argmax.get(floats))};
}

// The gradients of one image.
struct ImageBackward {
  const ConvActPool& job;
  const Blocks& blocks;
  const float* packed;
  int64_t image;
  Padded padded;
  const float* quads;  // null unless an argmax selects among 2 x 2 pixels
  float* sums;         // packed like the weights

  // One register of one pooled cell: dy, times the slope of the activation if y determines it.
  template <class Number>
  CONVSCOPE_INLINE Vec pooled_gradient(int64_t at, int lanes, bool from_output) const {
    const Vec dy = load_lanes(static_cast<const Number*>(job.dy) + at, lanes);
    if (!from_output) return dy;
    return dy * slope_from_output(load_lanes(static_cast<const Number*>(job.y) + at, lanes), job.activation);
  }

  // Calls body(y, x, register, index in dy, lanes) for all pooled cells of the rows [top, top + rows).
  template <int kRegisters, class Body>
  CONVSCOPE_INLINE void each_cell(int64_t first, int64_t top, int64_t rows, Body&& body) const {
    const int64_t columns = job.ow();
    const int last = int(std::min<int64_t>(job.filters - (first + kRegisters - 1) * kWidth, kWidth));
    for (int64_t y = 0; y < rows; ++y) {
      int64_t at = ((image * job.oh() + top + y) * columns) * job.filters + first * kWidth;
      for (int64_t x = 0; x < columns; ++x, at += job.filters)
#pragma GCC unroll 2
        for (int i = 0; i < kRegisters; ++i) body(y, x, i, at + i * kWidth, i + 1 < kRegisters ? kWidth : last);
    }
  }

  // Gradients and argmax indices of the pooled cells.
  template <class Number, int kRegisters>
  void fill_picks(int64_t first, int64_t top, int64_t rows, const Buffers& to, Vec (&sums)[kRegisters]) const {
    Vec sum[kRegisters];
    std::copy_n(sums, kRegisters, sum);
    Vec* gradient = to.gradient;
    IntVec* indices = to.argmax;
    const bool gated = job.activation == kRelu, from_output = job.reads_output();
    each_cell<kRegisters>(first, top, rows,
                          [&](int64_t, int64_t, int i, int64_t at, int lanes) __attribute__((always_inline)) {
                            Vec g = pooled_gradient<Number>(at, lanes, from_output);
                            const IntVec argmax = load_bytes(job.argmax + at, lanes);
                            if (gated) g = argmax == kNoArgmax ? Vec{} : g;
                            *gradient++ = g;
                            *indices++ = argmax;
                            sum[i] += g;
                          });
    std::copy_n(sum, kRegisters, sums);
  }

  // Gradients of the cells before pooling; kSlopes: times the recomputed slopes. kSize: the pool size, 0 for any.
  template <class Number, int kRegisters, int kSize, bool kArgmax, bool kSlopes>
  void fill_cells(int64_t first, int64_t top, int64_t rows, const Buffers& to, Vec (&sums)[kRegisters]) const {
    const int64_t p = kSize ? kSize : job.pool_size, row = job.ow() * p * kRegisters;
    Vec* gradient = to.gradient;
    const Vec* slopes = to.slopes;
    const bool from_output = job.reads_output();
    const float factor = job.pool == kAverage ? 1.0f / float(p * p) : 1.0f;
    Vec sum[kRegisters];
    std::copy_n(sums, kRegisters, sum);
    each_cell<kRegisters>(
        first, top, rows, [&](int64_t y, int64_t x, int i, int64_t at, int lanes) __attribute__((always_inline)) {
          const Vec g = pooled_gradient<Number>(at, lanes, from_output) * factor;
          const IntVec argmax = kArgmax ? load_bytes(job.argmax + at, lanes) : IntVec{};  // kNoArgmax matches no cell
          for (int64_t a = 0; a < p; ++a)
            for (int64_t b = 0; b < p; ++b) {
              const int64_t cell = (y * p + a) * row + (x * p + b) * kRegisters + i;
              Vec part = g;
              if constexpr (kArgmax) part = argmax == int32_t(a * p + b) ? part : Vec{};
              if constexpr (kSlopes) part *= slopes[cell];
              gradient[cell] = part;
              sum[i] += part;
            }
        });
    std::copy_n(sum, kRegisters, sums);
  }

  template <class Number, int kRegisters, int kSize>
  void fill_size(int64_t first, int64_t top, int64_t rows, const Buffers& to, Vec (&sums)[kRegisters]) const {
    const bool argmax = has_argmax(job.pool), slopes = job.recomputes();
    if (argmax && slopes)
      fill_cells<Number, kRegisters, kSize, true, true>(first, top, rows, to, sums);
    else if (argmax)
      fill_cells<Number, kRegisters, kSize, true, false>(first, top, rows, to, sums);
    else if (slopes)
      fill_cells<Number, kRegisters, kSize, false, true>(first, top, rows, to, sums);
    else
      fill_cells<Number, kRegisters, kSize, false, false>(first, top, rows, to, sums);
  }

  template <class Number, int kRegisters>
  void fill(int64_t first, int64_t top, int64_t rows, const Buffers& to, float* dbias) const {
    Vec sum[kRegisters];
    for (int i = 0; i < kRegisters; ++i) sum[i] = load(dbias + i * kWidth);
    if (quads)
      fill_picks<Number, kRegisters>(first, top, rows, to, sum);
    else if (job.pool_size == 1)
      fill_size<Number, kRegisters, 1>(first, top, rows, to, sum);
    else if (job.pool_size == 2)
      fill_size<Number, kRegisters, 2>(first, top, rows, to, sum);
    else
      fill_size<Number, kRegisters, 0>(first, top, rows, to, sum);
    for (int i = 0; i < kRegisters; ++i) store(dbias + i * kWidth, sum[i]);
  }

  // The slopes of the activation at all cells of the strip.
  template <int kRegisters>
  void recompute_slopes(int64_t first, int64_t top, int64_t rows, const Buffers& to) const {
    const RowFunction run = row_function(1, false, kRegisters, job.kernel_size, job.c);
    Row r = row_of(job, blocks, packed, first);
    r.row = padded.row;
    r.cells = job.ow() * job.pool_size;
    r.stride = kRegisters * kWidth;
    r.lanes = kWidth;
    r.activation = kNone;
    r.bf16 = false;
    for (int64_t y = 0; y < rows * job.pool_size; ++y) {
      r.x = padded.pixels + (top * job.pool_size + y) * padded.row;
      r.y = reinterpret_cast<float*>(to.slopes) + y * r.cells * r.stride;
      run(r);
    }
    slope_all(to.slopes, rows * job.pool_size * r.cells * kRegisters, job.activation);
  }

  template <int kRegisters>
  void add_block(int64_t first) const {
    const int64_t p = job.pool_size, cells_per_row = quads ? job.ow() : job.ow() * p * p;
    const int64_t max_rows = std::max<int64_t>(1, 64 / cells_per_row);
    const Buffers to = buffers(max_rows * cells_per_row * kRegisters * kWidth);
    float* dbias = sums + blocks.offset(first);
    Strip strip;
    strip.gradient = to.gradient;
    strip.argmax = to.argmax;
    strip.sums = dbias + kRegisters * kWidth;
    strip.sums_per_row = job.kernel_size * job.c;
    const int64_t floats = quads ? 4 : 1;
    strip.tap_row = padded.row * floats;
    strip.row = quads ? strip.tap_row * p : strip.tap_row;
    strip.step = quads ? job.c * p * floats : job.c;
    for (int64_t top = 0; top < job.oh(); top += max_rows) {
      const int64_t rows = std::min(max_rows, job.oh() - top);
      if (job.recomputes()) recompute_slopes<kRegisters>(first, top, rows, to);
      if (job.bf16)
        fill<bf16, kRegisters>(first, top, rows, to, dbias);
      else
        fill<float, kRegisters>(first, top, rows, to, dbias);
      strip.pixels = (quads ? quads : padded.pixels) + top * p * strip.tap_row;
      strip.rows = quads ? rows : rows * p;
      strip.cells = quads ? job.ow() : job.ow() * p;
      if (quads)
        add_products<kRegisters, kCanPick>(strip, job.kernel_size);
      else
        add_products<kRegisters, false>(strip, job.kernel_size);
    }
  }

  void run() const {
    for (int64_t first = 0; first < blocks.registers; first += blocks.size(first)) {
      if (kManyRegisters && blocks.size(first) == 2)
        add_block<kManyRegisters ? 2 : 1>(first);
      else
        add_block<1>(first);
    }
  }
};

void conv_act_pool_backward(const ConvActPool& job) {
  const int64_t images = std::max<int64_t>(4, (job.n + 63) / 64);  // per chunk: at most 64 partial sums
  const int64_t chunks = (job.n + images - 1) / images;
  const Blocks blocks(job, kManyRegisters ? 2 : 1);
  static thread_local Scratch packed, partial;
  float* const weights = packed.get(blocks.floats());
  if (job.recomputes()) pack(job, blocks, weights);
  const int64_t sums = std::max<int64_t>(chunks, 1) * blocks.floats();
  float* const parts = partial.get(sums);
  std::fill_n(parts, sums, 0.0f);
  const bool picks = kCanPick && job.pool_size == 2 && has_argmax(job.pool) && !job.recomputes();
  convscope::parallel_for(chunks, [&](int64_t chunk) {
    for (int64_t image = chunk * images; image < std::min(job.n, (chunk + 1) * images); ++image) {
      const Padded padded = pad(job, image);
      const float* quads = picks ? quads_of(padded, job.top + job.h + job.bottom, job.c) : nullptr;
      ImageBackward{job, blocks, weights, image, padded, quads, parts + chunk * blocks.floats()}.run();
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t at = 0; at < blocks.floats(); ++at) parts[at] += parts[chunk * blocks.floats() + at];
  blocks.each(job, [&](int64_t filter, int64_t tap, int64_t at) {
    if (tap >= 0)
      job.dweight[weight_offset(job, job.dweight_strides, filter, tap)] = parts[at];
    else if (job.dbias)
      job.dbias[filter] = parts[at];
  });
}

}  // namespace CONVSCOPE_NAMESPACE
