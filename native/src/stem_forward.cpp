// The stem in one pass over the images.
#include <algorithm>

#include "parallel.h"
#include "stem_rows.h"

namespace CONVSCOPE_NAMESPACE {

inline void forward_image(const ConvActPool& job, const Blocks& blocks, const float* packed, int64_t image) {
  const Padded padded = pad(job, image);
  const int64_t rows = job.oh(), row_floats = job.ow() * job.filters;
  for (int64_t first = 0; first < blocks.registers; first += blocks.size(first)) {
    const RowFunction run =
        row_function(job.pool_size, has_argmax(job.pool), blocks.size(first), job.kernel_size, job.c);
    Row r = row_of(job, blocks, packed, first);
    r.row = padded.row;
    for (int64_t y = 0; y < rows; ++y) {
      const int64_t at = (image * rows + y) * row_floats + first * kWidth;
      r.x = padded.pixels + y * job.pool_size * padded.row;
      r.y = static_cast<char*>(job.y) + at * (job.bf16 ? 2 : 4);
      r.argmax = job.argmax ? job.argmax + at : nullptr;
      run(r);
    }
  }
}

void conv_act_pool_forward(const ConvActPool& job) {
  constexpr int64_t kImages = 2;  // per chunk: small chunks keep all threads busy to the end
  const Blocks blocks(job, max_registers(int(job.pool_size)));
  static thread_local Scratch memory;
  float* const weights = memory.get(blocks.floats());  // owned by this thread, read by all
  pack(job, blocks, weights);
  convscope::parallel_for((job.n + kImages - 1) / kImages, [&](int64_t chunk) {
    for (int64_t image = chunk * kImages; image < std::min(job.n, (chunk + 1) * kImages); ++image)
      forward_image(job, blocks, weights, image);
  });
}

}  // namespace CONVSCOPE_NAMESPACE
