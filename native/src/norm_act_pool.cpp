// The passes of norm_act_pool over feature maps: their chunks, their order, and the batch statistics between them.
#include <cmath>
#include <type_traits>

#include "norm_act_pool_job.h"
#include "norm_act_pool_rows.h"
#include "parallel.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::NormActPool;
using convscope::parallel_for;

constexpr int64_t kChunk = 32768;  // numbers of a map: at most 128 KiB, which stay in the L2 cache

// work(whether the pool is max or min, the window size if it has code of its own, else 0)
template <class Work>
inline void with_pool(const NormActPool& job, Work&& work) {
  const auto with_size = [&](auto size) {
    if (has_argmax(job.pool))
      work(std::true_type{}, size);
    else
      work(std::false_type{}, size);
  };
  if (job.pool_size == 2)
    with_size(std::integral_constant<int, 2>{});
  else
    with_size(std::integral_constant<int, 0>{});
}

inline int64_t chunk_count(int64_t total, int64_t each) { return (total + each - 1) / each; }

// Calls work(chunk, begin, end) for chunks of [0, total) of length `each`. reverse: the caches still hold the end of
// the previous pass.
template <class Work>
inline void in_chunks(int64_t total, int64_t each, bool reverse, Work&& work) {
  const int64_t chunks = chunk_count(total, each);
  parallel_for(chunks, [&](int64_t i) {
    const int64_t chunk = reverse ? chunks - 1 - i : i;
    work(chunk, chunk * each, std::min(total, (chunk + 1) * each));
  });
}

// The arrays behind Coefficients, c floats each.
struct Table {
  float *mean, *scale, *shift, *tilt, *level;
  explicit Table(int64_t c)
      : mean(scratch<Use::kTable>(5 * c)), scale(mean + c), shift(scale + c), tilt(shift + c), level(tilt + c) {
    std::fill_n(mean, 5 * c, 0.f);
    std::fill_n(scale, c, 1.f);
  }
  void set(const NormActPool& job) {
    for (int64_t i = 0; i < job.c; ++i) {
      mean[i] = job.mean()[i];
      scale[i] = job.rstd()[i] * (job.weight ? job.weight[i] : 1);
      shift[i] = job.bias ? job.bias[i] : 0;
    }
  }
  bool batch_statistics = false;
  Coefficients view() const { return {mean, scale, shift, tilt, level, batch_statistics}; }
};

// Merges means and sums of squared deviations of the chunks, (chunks, 2, c), in chunk order (Chan et al., 1979).
inline void merge_moments(const NormActPool& job, const float* parts, int64_t chunks, int64_t each, int64_t pixels) {
  for (int64_t i = 0; i < job.c; ++i) {
    double count = 0, mean = 0, squares = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* part = parts + chunk * 2 * job.c + i;
      const double size = double(std::min(each, pixels - chunk * each)), delta = part[0] - mean;
      count += size;
      mean += delta * (size / count);
      squares += part[job.c] + delta * delta * (size * (count - size) / count);
    }
    job.mean()[i] = float(mean);
    job.rstd()[i] = float(1 / std::sqrt(squares / count + job.eps));
    if (!job.running_mean) continue;
    job.running_mean[i] += job.momentum * (float(mean) - job.running_mean[i]);
    job.running_var[i] += job.momentum * (float(squares / (count - 1)) - job.running_var[i]);
  }
}

// The gradients of the norm, and from them tilt and level of dx.
inline void merge_sums(const NormActPool& job, const float* parts, int64_t chunks, int64_t pixels, Table& table) {
  for (int64_t i = 0; i < job.c; ++i) {
    double sum = 0, product = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += parts[chunk * 2 * job.c + i];
      product += parts[chunk * 2 * job.c + job.c + i];
    }
    const double rstd = job.rstd()[i];
    if (job.dbias) job.dbias[i] = float(sum);
    if (job.dweight) job.dweight[i] = float(product * rstd);
    if (!job.batch_statistics) continue;
    table.batch_statistics = true;
    table.tilt[i] = float(-table.scale[i] * rstd * rstd * product / double(pixels));
    table.level[i] = float(-table.scale[i] * sum / double(pixels));
  }
}

// The shape and the chunks of a job.
struct Plan {
  const NormActPool& job;
  Grid grid;
  int64_t c, row;                    // channels; numbers per row of the pooled map
  bool first, last;                  // whether a pool comes first, or last
  int64_t pixels, out_rows;          // of the input of the norm, of the pooled map
  int64_t chunk_pixels, chunk_rows;  // per chunk
  float sign;                        // 1 for max, -1 for min

  explicit Plan(const NormActPool& job_) : job(job_), c(job_.c) {
    const int64_t size = job.pool ? job.pool_size : 1, oh = job.h / size, ow = job.w / size;
    grid = {job.h, job.w, c, size, oh, ow};
    row = ow * c;
    first = job.pool && job.pool_first;
    last = job.pool && !job.pool_first;
    out_rows = job.n * oh;
    pixels = first ? out_rows * ow : job.n * job.h * job.w;
    chunk_pixels = std::max<int64_t>(1, kChunk / c);
    chunk_rows = std::max<int64_t>(1, kChunk / (size * size * ow * c));
    sign = job.pool == convscope::kMin ? -1.f : 1.f;
  }
  int64_t input_of(int64_t out_row) const { return grid.input_row(out_row) * grid.w * c; }
  uint8_t* argmax_of(int64_t out_row) const { return job.argmax ? job.argmax + out_row * row : nullptr; }
};

template <class T>
struct Forward : Plan {
  const T* const x;
  T *const y, *const pooled;
  const int64_t moment_pixels;  // per chunk of the moments
  float* const parts;           // the moments of each chunk, (chunks, 2, c)
  Table table;

  explicit Forward(const NormActPool& job_)
      : Plan(job_),
        x(static_cast<const T*>(job.x)),
        y(static_cast<T*>(job.y)),
        pooled(static_cast<T*>(job.pooled)),
        moment_pixels(first ? chunk_rows * grid.ow : chunk_pixels),
        parts(job.batch_statistics ? scratch<Use::kParts>(chunk_count(pixels, moment_pixels) * 2 * c) : nullptr),
        table(c) {}

  void run() {
    if (job.norm && !job.batch_statistics) use_running_statistics();
    if (first)
      pool_first();
    else if (job.batch_statistics)
      in_chunks(pixels, moment_pixels, false,
                [&](int64_t chunk, int64_t begin, int64_t end) { add_moments(chunk, x + begin * c, end - begin); });
    if (job.batch_statistics) {
      merge_moments(job, parts, chunk_count(pixels, moment_pixels), moment_pixels, pixels);
      table.set(job);
    }
    if (last)
      pool_last();
    else if (!first || job.batch_statistics)
      in_chunks(pixels, chunk_pixels, job.batch_statistics, [&](int64_t, int64_t begin, int64_t end) {
        norm_act((first ? pooled : x) + begin * c, end - begin, y + begin * c);
      });
  }

  void use_running_statistics() {
    for (int64_t i = 0; i < c; ++i) {
      job.mean()[i] = job.running_mean[i];
      job.rstd()[i] = 1 / std::sqrt(job.running_var[i] + job.eps);
    }
    table.set(job);
  }

  void add_moments(int64_t chunk, const T* from, int64_t count) const {
    float* const part = parts + chunk * 2 * c;
    moments(from, count, c, part, part + c);
  }

  void norm_act(const T* from, int64_t count, T* to) const {
    with_activation(job.activation, [&](auto kind) { apply<kind>(from, count, c, table.view(), to); });
  }

  // The pool, and for each chunk its moments or everything that follows.
  void pool_first() const {
    with_pool(job, [&](auto extreme, auto size) {
      in_chunks(out_rows, chunk_rows, false, [&](int64_t chunk, int64_t begin, int64_t end) {
        const int64_t cells = (end - begin) * grid.ow;
        T* const to = pooled ? pooled + begin * row : reinterpret_cast<T*>(scratch<Use::kPooled>(cells * c));
        for (int64_t r = begin; r < end; ++r)
          pool_row<kPoolOnly, extreme, size>(grid, x + input_of(r), table.view(), sign, false, to + (r - begin) * row,
                                             argmax_of(r));
        if (job.batch_statistics)
          add_moments(chunk, to, cells);
        else if (y != pooled)
          norm_act(to, cells, y + begin * row);
      });
    });
  }

  void pool_last() const {
    const bool relu_argmax = !job.norm;  // then backward needs argmax only
    with_pool(job, [&](auto extreme, auto size) {
      with_activation(job.activation, [&](auto kind) {
        in_chunks(out_rows, chunk_rows, job.batch_statistics, [&](int64_t, int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r)
            pool_row<kind, extreme, size>(grid, x + input_of(r), table.view(), sign, relu_argmax, y + r * row,
                                          argmax_of(r));
        });
      });
    });
  }
};

template <class T>
struct Backward : Plan {
  const T *const x, *const dy;
  T* const dx;
  const bool reduces;  // whether sums over the batch are needed
  Table table;

  explicit Backward(const NormActPool& job_)
      : Plan(job_),
        x(static_cast<const T*>(job.x)),
        dy(static_cast<const T*>(job.dy)),
        dx(static_cast<T*>(job.dx)),
        reduces(job.batch_statistics || job.dweight || job.dbias),
        table(c) {
    if (job.norm) table.set(job);
  }

  void run() {
    if (reduces) reduce_batch();
    if (!dx) return;
    if (!job.pool)
      without_pool();
    else
      with_pool(job, [&](auto extreme, auto size) {
        if (!x)
          pool_only<extreme, size>();
        else
          with_activation(job.activation, [&](auto kind) { through_pool<kind, extreme, size>(); });
      });
  }

  void reduce_batch() {
    const int64_t total = last ? out_rows : pixels, each = last ? chunk_rows : chunk_pixels;
    float* const parts = scratch<Use::kParts>(chunk_count(total, each) * 2 * c);
    with_activation(job.activation, [&](auto kind) {
      in_chunks(total, each, false, [&](int64_t chunk, int64_t begin, int64_t end) {
        const Sums sums(c);
        if (last)
          with_pool(job, [&](auto extreme, auto size) {
            for (int64_t r = begin; r < end; ++r)
              reduce_row<kind, extreme, size>(grid, x + input_of(r), dy + r * row, argmax_of(r), table.view(), sums);
          });
        else
          reduce<kind>(x + begin * c, dy + begin * c, end - begin, c, table.view(), sums);
        sums.write(c, parts + chunk * 2 * c, parts + chunk * 2 * c + c);
      });
    });
    merge_sums(job, parts, chunk_count(total, each), pixels, table);
  }

  void without_pool() const {
    with_activation(job.activation, [&](auto kind) {
      in_chunks(pixels, chunk_pixels, reduces, [&](int64_t, int64_t begin, int64_t end) {
        norm_act_grad<kind>(x + begin * c, dy + begin * c, end - begin, c, table.view(), dx + begin * c);
      });
    });
  }

  // work(row of the pooled map, index of its input rows in dx, rows below them that no window covers)
  template <class Work>
  void each_row(Work&& work) const {
    in_chunks(out_rows, chunk_rows, reduces, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) work(r, input_of(r), (r + 1) % grid.oh ? 0 : grid.h - grid.oh * grid.size);
    });
  }

  template <bool extreme, int size>
  void pool_only() const {
    each_row([&](int64_t r, int64_t in, int64_t below) {
      pool_first_grad<kPoolOnly, extreme, size, T>(grid, nullptr, dy + r * row, argmax_of(r), table.view(), dx + in);
      remainder_grad<false, T>(grid, below, nullptr, table.view(), dx + in);
    });
  }

  template <Activation kind, bool extreme, int size>
  void through_pool() const {
    each_row([&](int64_t r, int64_t in, int64_t below) {
      const int64_t out = r * row;
      if (first)
        pool_first_grad<kind, extreme, size>(grid, x + out, dy + out, argmax_of(r), table.view(), dx + in);
      else
        pool_last_grad<kind, extreme, size>(grid, x + in, dy + out, argmax_of(r), table.view(), dx + in);
      if (last && job.batch_statistics)
        remainder_grad<true>(grid, below, x + in, table.view(), dx + in);
      else
        remainder_grad<false, T>(grid, below, nullptr, table.view(), dx + in);
    });
  }
};

void norm_act_pool_forward(const NormActPool& job) { job.bf16 ? Forward<bf16>(job).run() : Forward<float>(job).run(); }

void norm_act_pool_backward(const NormActPool& job) {
  job.bf16 ? Backward<bf16>(job).run() : Backward<float>(job).run();
}

}  // namespace CONVSCOPE_NAMESPACE
