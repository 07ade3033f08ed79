// What a training step needs beside its layers: a batch cut out of the data set, the loss, and the weights' update.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "scratch.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

// Where position `at` of a line of `size` pixels is read: reflected at the edges, which are not repeated.
inline int64_t reflected(int64_t at, int64_t size) {
  if (at < 0) at = -at;
  if (at >= size) at = 2 * (size - 1) - at;
  return at < 0 ? 0 : at;  // further out than the line is long
}

// out (n, h, w, c) = table[pixel] of the images at `index`, each moved by moves (n, 2) rows and columns and, where flips
// says so, flipped left to right before that. moves and flips may be null.
// images uint8 (.., h, w, c); table (256, c): what each pixel value becomes.
inline void cut_batch(const uint8_t* images, const int64_t* index, const int64_t* moves, const uint8_t* flips,
                      const float* table, int64_t n, int64_t h, int64_t w, int64_t c, float* out) {
  constexpr int64_t kImages = 8;
  convscope::parallel_for((n + kImages - 1) / kImages, [&](int64_t chunk) {
    static thread_local Scratch memory;
    auto* columns = reinterpret_cast<int64_t*>(memory.get(2 * w));  // where each column of an image is read
    for (int64_t i = chunk * kImages; i < std::min(n, (chunk + 1) * kImages); ++i) {
      const uint8_t* image = images + index[i] * h * w * c;
      const int64_t down = moves ? moves[2 * i] : 0, right = moves ? moves[2 * i + 1] : 0;
      for (int64_t x = 0; x < w; ++x) {
        const int64_t from = reflected(x - right, w);
        columns[x] = (flips && flips[i] ? w - 1 - from : from) * c;
      }
      float* to = out + i * h * w * c;
      for (int64_t y = 0; y < h; ++y) {
        const uint8_t* line = image + reflected(y - down, h) * w * c;
        for (int64_t x = 0; x < w; ++x, to += c)
          for (int64_t k = 0; k < c; ++k) to[k] = table[line[columns[x] + k] * c + k];
      }
    }
  });
}

// Softmax and cross-entropy of logits (n, classes) with labels (n,), `smoothing` of each target spread over all classes
// (Szegedy et al., 2016). gradient (n, classes) is that of the mean loss. Returns the sum of the losses; `right` counts
// the labels with the largest logit.
inline double cross_entropy(const float* logits, const int64_t* labels, int64_t n, int64_t classes, float smoothing,
                            float* gradient, int64_t* right) {
  double total = 0;
  *right = 0;
  for (int64_t i = 0; i < n; ++i, logits += classes, gradient += classes) {
    int64_t best = 0;
    for (int64_t k = 1; k < classes; ++k)
      if (logits[k] > logits[best]) best = k;
    double sum = 0, all_logits = 0;
    for (int64_t k = 0; k < classes; ++k) {
      gradient[k] = __builtin_expf(logits[k] - logits[best]);
      sum += gradient[k];
      if (smoothing > 0) all_logits += logits[k] - logits[best];  // 0 times infinity would be NaN
    }
    const double log_sum = __builtin_log(sum), spread = smoothing / double(classes);
    const double target = logits[labels[i]] - logits[best];
    total += log_sum - (1 - smoothing) * target - spread * all_logits;
    for (int64_t k = 0; k < classes; ++k) gradient[k] = float((gradient[k] / sum - spread) / double(n));
    gradient[labels[i]] -= float((1 - smoothing) / double(n));
    *right += best == labels[i];
  }
  return total;
}

// Stochastic gradient descent, as torch.optim.SGD rounds it: g += decay * w; v = momentum * v + g; then
// w -= rate * (nesterov ? g + momentum * v : v).
inline void descend(float* weight, const float* gradient, float* velocity, int64_t size, float rate, float momentum,
                    float decay, bool nesterov) {
  constexpr int64_t kBlock = 16384;
  convscope::parallel_for((size + kBlock - 1) / kBlock, [&](int64_t chunk) {
    const auto update = [&](auto w, auto g, auto v, auto& new_w, auto& new_v) {
      g = g + decay * w;
      new_v = momentum * v + g;
      new_w = w - rate * (nesterov ? g + momentum * new_v : new_v);
    };
    int64_t i = chunk * kBlock;
    const int64_t end = std::min(size, i + kBlock);
    for (; i + kWidth <= end; i += kWidth) {
      Vec w, v;
      update(load(weight + i), load(gradient + i), load(velocity + i), w, v);
      store(weight + i, w);
      store(velocity + i, v);
    }
    for (; i < end; ++i) update(weight[i], gradient[i], velocity[i], weight[i], velocity[i]);
  });
}

}  // namespace CONVSCOPE_NAMESPACE
