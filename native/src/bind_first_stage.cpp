// The first stage for Python: shapes, types and layouts are checked here, kernels trust them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <array>
#include <optional>
#include <stdexcept>

#include "chosen.h"
#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

using Array = nb::ndarray<nb::device::cpu>;
using Float = nb::ndarray<float, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::device::cpu>;

void expect(bool fits, const char* what) {
  if (!fits) throw std::invalid_argument(what);
}

// Shape (n, c, h, w) with channels last in memory; a side of 1 may have any stride.
template <class Maps>
bool channels_last(const Maps& maps) {
  if (maps.ndim() != 4) return false;
  int64_t stride = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (maps.shape(axis) != 1 && maps.stride(axis) != stride) return false;
    stride *= int64_t(maps.shape(axis));
  }
  return true;
}

template <class A, class B>
bool same_shape(const A& a, const B& b) {
  if (a.ndim() != b.ndim()) return false;
  for (size_t axis = 0; axis < a.ndim(); ++axis)
    if (a.shape(axis) != b.shape(axis)) return false;
  return true;
}

bool is_bf16(const Array& maps) {
  const nb::dlpack::dtype type = maps.dtype();
  const bool half = type.code == uint8_t(nb::dlpack::dtype_code::Bfloat) && type.bits == 16;
  expect(half || type == nb::dtype<float>(), "expected maps of float32 or bfloat16");
  return half;
}

void expect_bias(const std::optional<Float>& bias, int64_t filters) {
  expect(!bias || (bias->ndim() == 1 && int64_t(bias->shape(0)) == filters && (filters == 1 || bias->stride(0) == 1)),
         "expected a contiguous bias (filters,)");
}

// What forward and backward share. padding: top, bottom, left, right. function: none, relu, gelu, tanh. kind: none, max,
// min, average.
FirstStage stage_of(const Float& x, const Float& weight, const std::optional<Float>& bias,
                    const std::array<int64_t, 4>& padding, int function, int kind, int64_t size,
                    const std::optional<Bytes>& winner, int64_t maps_n, int64_t oh, int64_t ow) {
  expect(channels_last(x) && x.shape(1) >= 1 && x.shape(1) <= 4, "expected x (n, 1 to 4, h, w), channels last in memory");
  expect(weight.ndim() == 4 && weight.shape(1) == x.shape(1) && weight.shape(2) == weight.shape(3) && weight.shape(2) > 0,
         "expected weight (filters, channels of x, k, k)");
  expect(function >= 0 && function < 4 && kind >= 0 && kind < 4 && (kind ? size >= 2 && size <= 4 : size == 1),
         "expected a function and a kind from 0 to 3 and a window from 2 to 4, or 1 without pooling");
  FirstStage s{};
  s.n = x.shape(0), s.c = x.shape(1), s.h = x.shape(2), s.w = x.shape(3);
  s.filters = weight.shape(0), s.k = weight.shape(2);
  expect_bias(bias, s.filters);
  for (const int64_t side : padding) expect(side >= 0, "expected padding of 0 or more");
  s.top = padding[0], s.bottom = padding[1], s.left = padding[2], s.right = padding[3];
  s.function = Activation(function), s.kind = Pool(kind), s.size = size;
  s.x = x.data(), s.weight = weight.data(), s.bias = bias ? bias->data() : nullptr;
  for (int axis = 0; axis < 4; ++axis) s.weight_strides[axis] = weight.stride(axis);
  s.winner = winner ? winner->data() : nullptr;
  expect(s.h + s.top + s.bottom >= s.k && s.w + s.left + s.right >= s.k && s.n == maps_n && s.oh() == oh && s.ow() == ow,
         "expected maps (n, filters, oh, ow) of the size that x and weight give");
  return s;
}

void check_maps(const FirstStage& s, const Array& maps, const std::optional<Bytes>& winner) {
  expect(channels_last(maps) && int64_t(maps.shape(1)) == s.filters, "expected maps (n, filters, oh, ow), channels last");
  expect(!winner || (channels_last(*winner) && same_shape(*winner, maps)), "expected winners like the maps");
}

void forward(const Float& x, const Float& weight, const std::optional<Float>& bias, std::array<int64_t, 4> padding,
             int function, int kind, int64_t size, Array y, std::optional<Bytes> winner) {
  expect(y.ndim() == 4, "expected y (n, filters, oh, ow)");
  FirstStage s = stage_of(x, weight, bias, padding, function, kind, size, winner, y.shape(0), y.shape(2), y.shape(3));
  check_maps(s, y, winner);
  s.half = is_bf16(y);
  s.y = y.data();
  nb::gil_scoped_release release;
  chosen->first_stage_forward(s);
}

void backward(const Float& x, const Float& weight, const std::optional<Float>& bias, std::array<int64_t, 4> padding,
              int function, int kind, int64_t size, const std::optional<Array>& y, std::optional<Bytes> winner,
              const Array& dy, Float dweight, std::optional<Float> dbias) {
  expect(dy.ndim() == 4, "expected dy (n, filters, oh, ow)");
  FirstStage s = stage_of(x, weight, bias, padding, function, kind, size, winner, dy.shape(0), dy.shape(2), dy.shape(3));
  check_maps(s, dy, winner);
  s.half = is_bf16(dy);
  s.dy = dy.data();
  expect(!s.has_winner() || winner, "expected the winners of forward");
  expect(!s.reads_output() || (y && channels_last(*y) && same_shape(*y, dy) && y->dtype() == dy.dtype()),
         "expected y like dy");
  s.y = y ? y->data() : nullptr;
  expect(same_shape(dweight, weight), "expected dweight like weight");
  expect_bias(dbias, s.filters);
  s.dweight = dweight.data(), s.dbias = dbias ? dbias->data() : nullptr;
  for (int axis = 0; axis < 4; ++axis) s.dweight_strides[axis] = dweight.stride(axis);
  nb::gil_scoped_release release;
  chosen->first_stage_backward(s);
}

}  // namespace

void bind_first_stage(nb::module_& m) {
  m.def("first_stage_forward", &forward, "x"_a, "weight"_a, "bias"_a.none(), "padding"_a, "function"_a, "kind"_a,
        "size"_a, "y"_a, "winner"_a.none());
  m.def("first_stage_backward", &backward, "x"_a, "weight"_a, "bias"_a.none(), "padding"_a, "function"_a, "kind"_a,
        "size"_a, "y"_a.none(), "winner"_a.none(), "dy"_a, "dweight"_a, "dbias"_a.none());
}

}  // namespace convscope
