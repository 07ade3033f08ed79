// The jobs of a training step outside its layers.
#pragma once

#include <cstdint>

namespace convscope {

// out (n, h, w, c) = table[pixel, channel] of the images at `index`, flipped and then shifted; reflected at the edges.
struct GatherBatch {
  int64_t n, h, w, c;
  const uint8_t* images;  // (any number, h, w, c)
  const int64_t* index;   // (n,)
  const int64_t* shifts;  // (n, 2) rows down and columns to the right, or null
  const uint8_t* flips;   // (n,) whether to flip left to right, or null
  const float* table;     // (256, c): the value of each pixel
  float* out;
};

// Mean cross-entropy of softmax(logits), each target smoothed over all classes (Szegedy et al., 2016).
struct CrossEntropy {
  int64_t n, classes;
  float smoothing;
  const float* logits;    // (n, classes)
  const int64_t* labels;  // (n,)
  float* gradient;        // (n, classes): of the mean loss
};

struct CrossEntropySums {
  double loss;      // sum over the batch
  int64_t correct;  // labels with the largest logit
};

// Stochastic gradient descent with momentum; weight, gradient and velocity have the same layout.
struct SgdStep {
  int64_t size;
  float lr, momentum, weight_decay;
  bool nesterov;
  float* weight;
  const float* gradient;
  float* velocity;
};

}  // namespace convscope
