// The parts of a training step outside its layers: gathering the batch, the loss, and the update of the weights.
#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "scratch.h"
#include "step_job.h"
#include "vec.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::CrossEntropy;
using convscope::CrossEntropySums;
using convscope::GatherBatch;
using convscope::SgdStep;

// The index in [0, size) for `at`: reflected at the edges, whose pixels are not repeated.
inline int64_t reflect(int64_t at, int64_t size) {
  if (at < 0) at = -at;
  if (at >= size) at = 2 * (size - 1) - at;
  return at < 0 ? 0 : at;  // shifted by more than `size`
}

inline void gather_image(const GatherBatch& job, int64_t i, int64_t* columns) {
  const int64_t h = job.h, w = job.w, c = job.c;
  const uint8_t* image = job.images + job.index[i] * h * w * c;
  const int64_t down = job.shifts ? job.shifts[2 * i] : 0, right = job.shifts ? job.shifts[2 * i + 1] : 0;
  for (int64_t x = 0; x < w; ++x) {
    const int64_t from = reflect(x - right, w);
    columns[x] = (job.flips && job.flips[i] ? w - 1 - from : from) * c;
  }
  float* to = job.out + i * h * w * c;
  for (int64_t y = 0; y < h; ++y) {
    const uint8_t* row = image + reflect(y - down, h) * w * c;
    for (int64_t x = 0; x < w; ++x, to += c)
      for (int64_t k = 0; k < c; ++k) to[k] = job.table[row[columns[x] + k] * c + k];
  }
}

void gather_batch(const GatherBatch& job) {
  constexpr int64_t kImages = 8;  // per chunk
  convscope::parallel_for((job.n + kImages - 1) / kImages, [&](int64_t chunk) {
    static thread_local Scratch memory;
    auto* columns = reinterpret_cast<int64_t*>(memory.get(2 * job.w));  // the source of each column
    for (int64_t i = chunk * kImages; i < std::min(job.n, (chunk + 1) * kImages); ++i) gather_image(job, i, columns);
  });
}

CrossEntropySums cross_entropy(const CrossEntropy& job) {
  const int64_t classes = job.classes;
  const float* logits = job.logits;
  float* gradient = job.gradient;
  CrossEntropySums sums{0, 0};
  for (int64_t i = 0; i < job.n; ++i, logits += classes, gradient += classes) {
    const int64_t label = job.labels[i];
    int64_t best = 0;
    for (int64_t k = 1; k < classes; ++k)
      if (logits[k] > logits[best]) best = k;
    double sum = 0, all_logits = 0;
    for (int64_t k = 0; k < classes; ++k) {
      gradient[k] = __builtin_expf(logits[k] - logits[best]);
      sum += gradient[k];
      if (job.smoothing > 0) all_logits += logits[k] - logits[best];  // 0 times infinity would be NaN
    }
    const double log_sum = __builtin_log(sum), off_target = job.smoothing / double(classes);
    const double target = logits[label] - logits[best];
    sums.loss += log_sum - (1 - job.smoothing) * target - off_target * all_logits;
    for (int64_t k = 0; k < classes; ++k) gradient[k] = float((gradient[k] / sum - off_target) / double(job.n));
    gradient[label] -= float((1 - job.smoothing) / double(job.n));
    sums.correct += best == label;
  }
  return sums;
}

// Rounds as torch.optim.SGD does: g += weight_decay * w; v = momentum * v + g; then
// w -= lr * (nesterov ? g + momentum * v : v).
void sgd_step(const SgdStep& job) {
  constexpr int64_t kBlock = 16384;
  convscope::parallel_for((job.size + kBlock - 1) / kBlock, [&](int64_t chunk) {
    const float lr = job.lr, momentum = job.momentum, weight_decay = job.weight_decay;
    const bool nesterov = job.nesterov;
    float *const weight = job.weight, *const velocity = job.velocity;
    const float* const gradient = job.gradient;
    const auto decay = [&](auto w, auto g) { return g + weight_decay * w; };
    const auto accelerate = [&](auto g, auto v) { return momentum * v + g; };
    const auto move = [&](auto w, auto g, auto v) { return w - lr * (nesterov ? g + momentum * v : v); };
    int64_t i = chunk * kBlock;
    const int64_t end = std::min(job.size, i + kBlock);
    for (; i + kWidth <= end; i += kWidth) {
      const Vec w = load(weight + i), g = decay(w, load(gradient + i)), v = accelerate(g, load(velocity + i));
      store(velocity + i, v);
      store(weight + i, move(w, g, v));
    }
    for (; i < end; ++i) {
      const float g = decay(weight[i], gradient[i]);
      velocity[i] = accelerate(g, velocity[i]);
      weight[i] = move(weight[i], g, velocity[i]);
    }
  });
}

}  // namespace CONVSCOPE_NAMESPACE
