// The fully connected layer, y = x weight^T + bias with ReLU, and its gradients.
#include <algorithm>
#include <cstdint>

#include "dense_job.h"
#include "dense_tile.h"
#include "parallel.h"
#include "scratch.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {
namespace dense {

using convscope::Dense;
using convscope::parallel_for;

// ---- forward -------------------------------------------------------------------------------------------------------

constexpr int64_t kMaxRows = 256, kMaxColumns = 128;  // of one chunk
constexpr int64_t kDeep = 2 * kBlock;                 // words packed at a time

// How the product of (rows, depth) and (columns, depth) is cut into chunks, by its shape alone.
struct Cut {
  int64_t row_blocks, rows, column_blocks, columns, groups, depth, pitch;
  Cut(int64_t all_rows, int64_t all_columns, int64_t all_depth) {
    row_blocks = blocks(all_rows, kMaxRows);
    rows = blocks(all_rows, row_blocks);
    columns = round_up(blocks(all_columns, blocks(all_columns, kMaxColumns)), kWidth);
    column_blocks = blocks(all_columns, columns);
    const int64_t areas = row_blocks * column_blocks;
    groups = 1;  // parts of the depth, so that four threads get equal work
    while (areas < 16 && groups < 8 && all_depth >= 2 * kBlock * groups && (areas * groups < 8 || areas * groups % 4))
      groups *= 2;
    depth = round_up(blocks(all_depth, groups), 2 * kWidth);
    groups = blocks(all_depth, depth);
    pitch = round_up(all_columns, kWidth);
  }
};

// partial [group][row][column, padded to a register] = the sums over each group's part of the depth
template <class Words, class A, class B>
void partial_products(const Cut& cut, const A* a, int64_t rows, const B* b, int64_t columns, int64_t depth,
                      float* partial) {
  parallel_for(cut.row_blocks * cut.column_blocks * cut.groups, [&](int64_t chunk) {
    const int64_t group = chunk % cut.groups, area = chunk / cut.groups;
    const int64_t row = area % cut.row_blocks * cut.rows, row_count = std::min(cut.rows, rows - row);
    const int64_t column = area / cut.row_blocks * cut.columns, column_count = std::min(cut.columns, columns - column);
    const int64_t from = group * cut.depth, to = std::min(depth, from + cut.depth);
    static thread_local Scratch row_scratch, panel_scratch;
    float* const packed = row_scratch.get(kDeep / kBlock * cut.rows * kPitch);
    float* const panel = panel_scratch.get(kDeep * kPanel);
    for (int64_t k = from; k < to; k += kDeep * Words::kDepth) {
      const int64_t count = std::min(kDeep * Words::kDepth, to - k), words = blocks(count, Words::kDepth);
      pack_rows<Words>(a + row * depth + k, depth, row_count, count, packed);
      for (int64_t first = 0; first < column_count; first += kPanel) {
        const int vectors = column_count - first > kWidth ? 2 : 1;
        const B* const source = b + (column + first) * depth + k;
        pack_transposed<Words>(source, depth, column_count - first, count, vectors, panel);
        float* const sums = partial + (group * rows + row) * cut.pitch + column + first;
        multiply<Words, float>({packed, row_count, row_count * kPitch}, {panel, words, vectors},
                               {sums, cut.pitch, k > from}, vectors * kWidth);
      }
    }
  });
}

// y (n, units) = the sum over the groups, in order, + bias, ReLU.
// partial is (groups, units, pitch of n) or (groups, n, pitch of units).
inline void finish(const Cut& cut, const Dense& d, const float* partial, bool units_are_rows) {
  const int64_t rows = units_are_rows ? d.units : d.n;
  const auto sum = [&](int64_t row, int64_t column) {
    Vec total = load(partial + row * cut.pitch + column);
    for (int64_t group = 1; group < cut.groups; ++group)
      total += load(partial + (group * rows + row) * cut.pitch + column);
    return total;
  };
  const auto write = [&](int64_t image, int64_t unit, Vec value) {
    value += load_part(d.bias + unit, d.units - unit);
    if (d.relu) value = select(value < Vec{}, Vec{}, value);  // NaN stays
    store_part(d.y + image * d.units + unit, value, d.units - unit);
  };
  constexpr int64_t kStep = 2 * kWidth;
  parallel_for(blocks(rows, kStep), [&](int64_t chunk) {
    const int64_t end = std::min(rows, (chunk + 1) * kStep);
    if (!units_are_rows) {
      for (int64_t row = chunk * kStep; row < end; ++row)
        for (int64_t unit = 0; unit < d.units; unit += kWidth) write(row, unit, sum(row, unit));
      return;
    }
    for (int64_t row = chunk * kStep; row < end; row += kWidth)
      for (int64_t image = 0; image < d.n; image += kWidth) {
        Vec square[kWidth] = {};
        const int64_t units = std::min<int64_t>(kWidth, end - row), images = std::min<int64_t>(kWidth, d.n - image);
        for (int64_t lane = 0; lane < units; ++lane) square[lane] = sum(row + lane, image);
        transpose(square);
        for (int64_t lane = 0; lane < images; ++lane) write(image + lane, row, square[lane]);
      }
  });
}

template <class Words, class X>
void forward_as(const Dense& d) {
  const X* const x = static_cast<const X*>(d.x);
  const bool units_are_rows = round_up(d.n, kWidth) * d.units <= round_up(d.units, kWidth) * d.n;  // fewer idle lanes
  const Cut cut = units_are_rows ? Cut(d.units, d.n, d.inputs) : Cut(d.n, d.units, d.inputs);
  static thread_local Scratch scratch;
  float* const partial = scratch.get(cut.groups * (units_are_rows ? d.units : d.n) * cut.pitch);
  if (units_are_rows)
    partial_products<Words>(cut, d.weight, d.units, x, d.n, d.inputs, partial);
  else
    partial_products<Words>(cut, x, d.n, d.weight, d.units, d.inputs, partial);
  finish(cut, d, partial, units_are_rows);
}

// ---- backward ------------------------------------------------------------------------------------------------------

constexpr int64_t kColumns = 128;  // inputs per chunk

// The gradient before ReLU, packed as rows for both products: by_image (n, units) and by_unit (units, n).
template <class Words>
void pack_gradient(const Dense& d, float* by_image, float* by_unit) {
  constexpr int64_t kStep = kWidth * Words::kDepth;
  const int64_t units = round_up(d.units, kStep);
  parallel_for(units / kStep, [&](int64_t chunk) {
    const int64_t first = chunk * kStep, word = first / Words::kDepth, images = round_up(d.n, kStep);
    static thread_local Scratch scratch;
    float* const masked = scratch.get(images * kStep);  // (n, kStep), padded with zeros to squares
    Vec sums[Words::kDepth] = {};
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t part = 0; part < Words::kDepth; ++part) {
        const int64_t unit = first + part * kWidth, at = image * d.units + unit;
        const int64_t count = image < d.n ? d.units - unit : 0;
        Vec gradient = load_part(d.dy + at, count);
        if (d.relu)
          gradient = select(load_part(d.y + at, count) <= Vec{}, Vec{}, gradient);  // NaN passes, as in PyTorch
        sums[part] += gradient;
        store(masked + image * kStep + part * kWidth, gradient);
      }
      if (!by_image || image >= d.n) continue;
      float* const to = by_image + (word / kBlock * d.n + image) * kPitch + word % kBlock;
      store(to, Words::along(masked + image * kStep, kStep));
    }
    for (int64_t part = 0; part < Words::kDepth && d.dbias; ++part) {
      const int64_t unit = first + part * kWidth;
      store_part(d.dbias + unit, sums[part], d.units - unit);
    }
    for (int64_t image = 0; image < images && by_unit; image += kStep)
      for (int64_t part = 0; part < Words::kDepth; ++part) {
        Vec square[kWidth];
        for (int64_t lane = 0; lane < kWidth; ++lane) {
          const float* const even = masked + (image + lane * Words::kDepth) * kStep + part * kWidth;
          square[lane] = Words::across(load(even), load(Words::kDepth == 2 ? even + kStep : even));
        }
        transpose(square);
        const int64_t at = image / Words::kDepth, unit = first + part * kWidth;
        float* const to = by_unit + (at / kBlock * d.units + unit) * kPitch + at % kBlock;
        const int64_t count = std::min<int64_t>(kWidth, d.units - unit);
        for (int64_t lane = 0; lane < count; ++lane) store(to + lane * kPitch, square[lane]);
      }
  });
}

template <class Words, class X>
void backward_as(const Dense& d) {
  const X* const x = static_cast<const X*>(d.x);
  X* const dx = static_cast<X*>(d.dx);
  const auto packed_size = [](int64_t rows, int64_t depth) {
    return blocks(depth, kBlock * Words::kDepth) * rows * kPitch;
  };
  static thread_local Scratch image_scratch, unit_scratch;
  float* const by_image = dx ? image_scratch.get(packed_size(d.n, d.units)) : nullptr;
  float* const by_unit = d.dweight ? unit_scratch.get(packed_size(d.units, d.n)) : nullptr;
  pack_gradient<Words>(d, by_image, by_unit);
  if (!dx && !d.dweight) return;
  parallel_for(blocks(d.inputs, kColumns), [&](int64_t chunk) {
    static thread_local Scratch scratch;
    const int64_t first = chunk * kColumns, columns = std::min(kColumns, d.inputs - first);
    const int64_t unit_words = blocks(d.units, Words::kDepth);
    float* const panels = scratch.get(std::max(unit_words, kDeep) * kColumns);
    const auto each_panel = [&](int64_t words, auto&& body) {
      for (int64_t column = 0; column < columns; column += kPanel) {
        const int64_t count = std::min<int64_t>(kPanel, columns - column);
        body(panels + column * words, count > kWidth ? 2 : 1, first + column, count);
      }
    };
    if (dx) {
      pack_columns<Words>(d.weight + first, d.inputs, d.units, columns, panels);
      each_panel(unit_words, [&](const float* panel, int vectors, int64_t column, int64_t count) {
        multiply<Words, X>({by_image, d.n, d.n * kPitch}, {panel, unit_words, vectors}, {dx + column, d.inputs, false},
                           count);
      });
    }
    for (int64_t image = 0; image < d.n && d.dweight; image += kDeep * Words::kDepth) {
      const int64_t images = std::min(kDeep * Words::kDepth, d.n - image), words = blocks(images, Words::kDepth);
      const float* const rows = by_unit + image / Words::kDepth / kBlock * d.units * kPitch;
      pack_columns<Words>(x + image * d.inputs + first, d.inputs, images, columns, panels);
      each_panel(words, [&](const float* panel, int vectors, int64_t column, int64_t count) {
        multiply<Words, float>({rows, d.units, d.units * kPitch}, {panel, words, vectors},
                               {d.dweight + column, d.inputs, image > 0}, count);
      });
    }
  });
}

}  // namespace dense

void dense_forward(const convscope::Dense& d) {
  using namespace dense;
  if (d.bf16)
    d.x_is_bf16 ? forward_as<Bf16Words, bf16>(d) : forward_as<Bf16Words, float>(d);
  else
    d.x_is_bf16 ? forward_as<FloatWords, bf16>(d) : forward_as<FloatWords, float>(d);
}

void dense_backward(const convscope::Dense& d) {
  using namespace dense;
  if (d.bf16)
    d.x_is_bf16 ? backward_as<Bf16Words, bf16>(d) : backward_as<Bf16Words, float>(d);
  else
    d.x_is_bf16 ? backward_as<FloatWords, bf16>(d) : backward_as<FloatWords, float>(d);
}

}  // namespace CONVSCOPE_NAMESPACE
