// The passes of a chain over its maps: which chunks, in which order, and the batch norm between them.
#pragma once

#include <cmath>
#include <type_traits>

#include "chain.h"
#include "parallel.h"

namespace CONVSCOPE_NAMESPACE {

using convscope::Chain;
using convscope::parallel_for;

constexpr int64_t kChunk = 32768;  // cells of a map: at most 128 KiB, in the L2 cache while it is used

template <int value>
using Constant = std::integral_constant<int, value>;

template <class Work>
inline void with_activation(int kind, Work&& work) {
  switch (kind) {
    case convscope::kRelu: return work(Constant<convscope::kRelu>{});
    case convscope::kGelu: return work(Constant<convscope::kGelu>{});
    case convscope::kTanh: return work(Constant<convscope::kTanh>{});
    default: return work(Constant<convscope::kNone>{});
  }
}

// work(whether max or min, the window's size or 0 for any)
template <class Work>
inline void with_pool(const Chain& job, Work&& work) {
  if (job.pool == convscope::kAverage) return job.size == 2 ? work(Constant<0>{}, Constant<2>{}) : work(Constant<0>{}, Constant<0>{});
  return job.size == 2 ? work(Constant<1>{}, Constant<2>{}) : work(Constant<1>{}, Constant<0>{});
}

// Equal pieces of [0, total), `each` long but for the last. backwards: the caches still hold the end of the last pass.
template <class Work>
inline void in_chunks(int64_t total, int64_t each, bool backwards, Work&& work) {
  const int64_t chunks = (total + each - 1) / each;
  parallel_for(chunks, [&](int64_t turn) {
    const int64_t chunk = backwards ? chunks - 1 - turn : turn;
    work(chunk, chunk * each, std::min(total, (chunk + 1) * each));
  });
}

inline int64_t chunks_of(int64_t total, int64_t each) { return (total + each - 1) / each; }

// Five arrays of c floats: see Coefficients.
struct Table {
  float *mean, *scale, *shift, *tilt, *level;
  explicit Table(int64_t c)
      : mean(scratch<2>(5 * c)), scale(mean + c), shift(scale + c), tilt(shift + c), level(tilt + c) {
    std::fill_n(mean, 5 * c, 0.f);
    std::fill_n(scale, c, 1.f);
  }
  void set(const Chain& job) {
    for (int64_t i = 0; i < job.c; ++i) {
      mean[i] = job.mean[i];
      scale[i] = job.rstd[i] * (job.weight ? job.weight[i] : 1);
      shift[i] = job.bias ? job.bias[i] : 0;
    }
  }
  bool tilts = false;
  Coefficients view() const { return {mean, scale, shift, tilt, level, tilts}; }
};

// Chunk means and sums of squared deviations, (chunks, 2, c), merged in chunk order (Chan et al., 1979).
inline void merge_moments(const Chain& job, const float* parts, int64_t chunks, int64_t each, int64_t pixels) {
  for (int64_t i = 0; i < job.c; ++i) {
    double count = 0, mean = 0, squares = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* part = parts + chunk * 2 * job.c + i;
      const double more = double(std::min(each, pixels - chunk * each)), apart = part[0] - mean;
      count += more;
      mean += apart * (more / count);
      squares += part[job.c] + apart * apart * (more * (count - more) / count);
    }
    job.mean[i] = float(mean);
    job.rstd[i] = float(1 / std::sqrt(squares / count + job.eps));
    if (!job.running_mean) continue;
    job.running_mean[i] += job.momentum * (float(mean) - job.running_mean[i]);
    job.running_var[i] += job.momentum * (float(squares / (count - 1)) - job.running_var[i]);
  }
}

struct Plan {
  Grid grid;
  int64_t pixels, out_rows;          // of the input; of the pooled map
  int64_t chunk_pixels, chunk_rows;  // per chunk
  float sign;
  explicit Plan(const Chain& job) {
    const int64_t size = job.pool ? job.size : 1, oh = job.h / size, ow = job.w / size;
    grid = {job.h, job.w, job.c, size, oh, ow};
    pixels = job.n * job.h * job.w;
    out_rows = job.n * oh;
    chunk_pixels = std::max<int64_t>(1, kChunk / job.c);
    chunk_rows = std::max<int64_t>(1, kChunk / (size * size * ow * job.c));
    sign = job.pool == convscope::kMin ? -1.f : 1.f;
  }
};

template <class T>
void forward(const Chain& job) {
  const Plan plan(job);
  const Grid& grid = plan.grid;
  const int64_t c = job.c, row = grid.ow * c;
  const T* x = static_cast<const T*>(job.x);
  T *y = static_cast<T*>(job.y), *z = static_cast<T*>(job.z);
  const bool first = job.pool && job.pool_first, last = job.pool && !job.pool_first;
  const int64_t pixels = first ? plan.out_rows * grid.ow : plan.pixels;  // that the norm sees
  const int64_t each = first ? plan.chunk_rows * grid.ow : plan.chunk_pixels;
  float* parts = job.batch ? scratch<3>(chunks_of(pixels, each) * 2 * c) : nullptr;
  Table table(c);
  if (job.norm && !job.batch) {
    for (int64_t i = 0; i < c; ++i) {
      job.mean[i] = job.running_mean[i];
      job.rstd[i] = 1 / std::sqrt(job.running_var[i] + job.eps);
    }
    table.set(job);
  }
  const auto activate_chunk = [&](const T* from, int64_t count, T* to) {
    with_activation(job.activation, [&](auto kind) { apply<kind>(from, count, c, table.view(), to); });
  };
  if (first) {
    with_pool(job, [&](auto extreme, auto size) {
      in_chunks(plan.out_rows, plan.chunk_rows, false, [&](int64_t chunk, int64_t begin, int64_t end) {
        T* to = z ? z + begin * row : reinterpret_cast<T*>(scratch<4>((end - begin) * row));
        for (int64_t r = begin; r < end; ++r)
          pool_row<kPlain, extreme, size>(grid, x + grid.images_row(r) * grid.w * c, table.view(), plan.sign, false,
                                          to + (r - begin) * row, job.winner ? job.winner + r * row : nullptr);
        float* part = parts + chunk * 2 * c;
        if (job.batch) moments(to, (end - begin) * grid.ow, c, part, part + c);
        else if (y != z) activate_chunk(to, (end - begin) * grid.ow, y + begin * row);
      });
    });
  } else if (job.batch) {
    in_chunks(pixels, each, false, [&](int64_t chunk, int64_t begin, int64_t end) {
      float* part = parts + chunk * 2 * c;
      moments(x + begin * c, end - begin, c, part, part + c);
    });
  }
  if (job.batch) {
    merge_moments(job, parts, chunks_of(pixels, each), each, pixels);
    table.set(job);
  }
  if (last) {
    const bool mark_dead = !job.norm;  // then the backward pass needs nothing but the winners
    with_pool(job, [&](auto extreme, auto size) {
      with_activation(job.activation, [&](auto kind) {
        in_chunks(plan.out_rows, plan.chunk_rows, job.batch, [&](int64_t, int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r)
            pool_row<kind, extreme, size>(grid, x + grid.images_row(r) * grid.w * c, table.view(), plan.sign, mark_dead,
                                          y + r * row, job.winner + r * row);
        });
      });
    });
  } else if (!first || job.batch) {
    in_chunks(pixels, plan.chunk_pixels, job.batch, [&](int64_t, int64_t begin, int64_t end) {
      activate_chunk((first ? z : x) + begin * c, end - begin, y + begin * c);
    });
  }
}

// The norm's gradients, and from them the tilt and level of dx.
inline void merge_sums(const Chain& job, const float* parts, int64_t chunks, int64_t pixels, Table& table) {
  for (int64_t i = 0; i < job.c; ++i) {
    double sum = 0, product = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += parts[chunk * 2 * job.c + i];
      product += parts[chunk * 2 * job.c + job.c + i];
    }
    const double rstd = job.rstd[i];
    if (job.dbias) job.dbias[i] = float(sum);
    if (job.dweight) job.dweight[i] = float(product * rstd);
    if (!job.batch) continue;
    table.tilts = true;
    table.tilt[i] = float(-table.scale[i] * rstd * rstd * product / double(pixels));
    table.level[i] = float(-table.scale[i] * sum / double(pixels));
  }
}

template <class T>
void backward(const Chain& job) {
  const Plan plan(job);
  const Grid& grid = plan.grid;
  const int64_t c = job.c, row = grid.ow * c;
  const T *x = static_cast<const T*>(job.x), *dy = static_cast<const T*>(job.y);
  T* dx = static_cast<T*>(job.dx);
  const bool first = job.pool && job.pool_first, last = job.pool && !job.pool_first;
  const int64_t pixels = first ? plan.out_rows * grid.ow : plan.pixels;
  Table table(c);
  if (job.norm) table.set(job);
  const bool reduces = job.batch || job.dweight || job.dbias;
  if (reduces) {
    const int64_t total = last ? plan.out_rows : pixels, each = last ? plan.chunk_rows : plan.chunk_pixels;
    float* parts = scratch<3>(chunks_of(total, each) * 2 * c);
    with_activation(job.activation, [&](auto kind) {
      in_chunks(total, each, false, [&](int64_t chunk, int64_t begin, int64_t end) {
        const Sums sums(c);
        if (!last) reduce<kind>(x + begin * c, dy + begin * c, end - begin, c, table.view(), sums);
        else with_pool(job, [&](auto extreme, auto size) {
          for (int64_t r = begin; r < end; ++r)
            reduce_row<kind, extreme, size>(grid, x + grid.images_row(r) * grid.w * c, dy + r * row,
                                            job.winner + r * row, table.view(), sums);
        });
        sums.write(c, parts + chunk * 2 * c, parts + chunk * 2 * c + c);
      });
    });
    merge_sums(job, parts, chunks_of(total, each), pixels, table);
  }
  if (!dx) return;
  if (!job.pool)
    return with_activation(job.activation, [&](auto kind) {
      in_chunks(pixels, plan.chunk_pixels, reduces, [&](int64_t, int64_t begin, int64_t end) {
        spread<kind>(x + begin * c, dy + begin * c, end - begin, c, table.view(), dx + begin * c);
      });
    });
  const auto rows = [&](auto&& work) {  // work(output row, first cell of its input rows, further rows below)
    in_chunks(plan.out_rows, plan.chunk_rows, reduces, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        work(r * row, grid.images_row(r) * grid.w * c, (r + 1) % grid.oh ? 0 : grid.h - grid.oh * grid.size);
    });
  };
  with_pool(job, [&](auto extreme, auto size) {
    if (!x)
      return rows([&](int64_t at, int64_t below_at, int64_t below) {
        scatter_row<kPlain, extreme, size, T>(grid, nullptr, dy + at, job.winner + at, table.view(), dx + below_at);
        spread_rest<false, T>(grid, below, nullptr, table.view(), dx + below_at);
      });
    with_activation(job.activation, [&](auto kind) {
      rows([&](int64_t at, int64_t below_at, int64_t below) {
        if (first) {
          scatter_row<kind, extreme, size>(grid, x + at, dy + at, job.winner + at, table.view(), dx + below_at);
          spread_rest<false, T>(grid, below, nullptr, table.view(), dx + below_at);
        } else {
          spread_row<kind, extreme, size>(grid, x + below_at, dy + at, job.winner + at, table.view(), dx + below_at);
          if (job.batch) spread_rest<true>(grid, below, x + below_at, table.view(), dx + below_at);
          else spread_rest<false, T>(grid, below, nullptr, table.view(), dx + below_at);
        }
      });
    });
  });
}

inline void chain_forward(const Chain& job) { job.half ? forward<bf16>(job) : forward<float>(job); }
inline void chain_backward(const Chain& job) { job.half ? backward<bf16>(job) : backward<float>(job); }

}  // namespace CONVSCOPE_NAMESPACE
