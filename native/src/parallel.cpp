#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace convscope {
namespace {

using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The entry point of libgomp for a parallel region (its ABI since GCC 4.9). It is looked up rather than linked, because
// a process must not have two OpenMP runtimes.
using GompParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

GompParallel find_openmp() {
#if defined(__linux__)
  return reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

// A ticket is one number, so that claiming a chunk is one atomic addition and a late worker cannot mistake an old job
// for a new one: 24 bits of generation, 20 bits of the number of chunks, 20 bits of the next chunk.
constexpr int kBits = 20;
constexpr uint64_t kMask = (uint64_t{1} << kBits) - 1;
constexpr int64_t kMaxChunks = int64_t{1} << (kBits - 1);  // the rest is headroom for late claims

constexpr int kUnlimited = 1 << 30;
constexpr int kSpins = 20000;  // about 200 us: longer than the pause between two kernels of a training step

// A thread that loses its core in the middle of a chunk makes the others wait: a stall. A wait for the last chunk is
// normal, so a wait counts as a stall only if it is long in itself and long compared with the calling thread's work.
constexpr auto kStallMin = std::chrono::microseconds(200);
constexpr double kStallFraction = 0.5;
// Every interval, a stalled fraction above the limit takes one thread away. After a period without stalls one thread
// comes back; the period doubles each time that this turns out to be too early.
constexpr auto kInterval = std::chrono::milliseconds(30);
constexpr double kMaxStalledFraction = 0.15;
constexpr auto kMinRecovery = std::chrono::milliseconds(60);
constexpr auto kMaxRecovery = std::chrono::milliseconds(960);

struct Pool {
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<int> asleep{0};
  std::atomic<bool> working{false};
  std::atomic<int> active{1};  // threads that may work
  std::atomic<int> spins{kSpins};
  std::atomic<bool> ending{false};
  void (*body)(void*, int64_t) = nullptr;
  void* context = nullptr;
  std::vector<std::thread> workers;
  GompParallel openmp = nullptr;  // used instead of the workers if not null

  Clock::time_point interval_start = Clock::now(), last_change = interval_start;
  Clock::duration stalled{}, recovery = kMinRecovery;

  ~Pool() { resize(1); }

  void resize(int count) {
    ending = true;
    generation.fetch_add(1);
    generation.notify_all();
    active = kUnlimited;
    active.notify_all();
    for (auto& worker : workers) worker.join();
    workers.clear();
    ending = false;
    active = count;
    for (int index = 1; index < count; ++index) workers.emplace_back([this, index] { serve(index); });
  }

  void take_chunks() {
    for (;;) {
      const uint64_t claim = ticket.fetch_add(1, std::memory_order_acq_rel);
      const int64_t chunk = claim & kMask, chunks = (claim >> kBits) & kMask;
      if (chunk >= chunks) return;
      body(context, chunk);  // body and context do not change before this chunk counts as done
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) done.notify_one();
    }
  }

  void serve(int index) {
    uint32_t seen = generation.load();
    while (!ending) {
      for (int now; index >= (now = active.load()) && !ending;) active.wait(now);
      for (int spin = spins.load(std::memory_order_relaxed); spin > 0 && generation.load() == seen; --spin) pause();
      if (generation.load() == seen) {
        asleep.fetch_add(1);
        generation.wait(seen);
        asleep.fetch_sub(1);
      }
      seen = generation.load();
      take_chunks();
    }
  }

  void run(int64_t chunks, void (*work)(void*, int64_t), void* with) {
    body = work;
    context = with;
    done.store(0, std::memory_order_relaxed);
    const uint32_t next = generation.load() + 1;
    ticket.store(uint64_t{next} << (2 * kBits) | uint64_t(chunks) << kBits, std::memory_order_release);
    if (openmp) {
      openmp([](void* pool) { static_cast<Pool*>(pool)->take_chunks(); }, this, unsigned(workers.size() + 1), 0);
      return;
    }
    generation.store(next);
    if (asleep.load() > 0) generation.notify_all();
    const auto began = Clock::now();
    take_chunks();
    const auto finished = Clock::now();
    for (int spin = kSpins; spin > 0 && done.load(std::memory_order_acquire) < chunks; --spin) pause();
    for (int64_t count; (count = done.load(std::memory_order_acquire)) < chunks;) done.wait(count);
    const auto now = Clock::now();
    const auto waited = now - finished;
    if (waited > kStallMin && waited > kStallFraction * (finished - began)) stalled += waited;
    adapt(now);
  }

  // Stalls show that other processes use the cores: then fewer threads work, and idle ones sleep instead of spinning.
  void adapt(Clock::time_point now) {
    if (now - interval_start < kInterval) return;
    const bool busy = stalled > kMaxStalledFraction * (now - interval_start);
    interval_start = now;
    stalled = {};
    if (busy) {
      recovery = std::min<Clock::duration>(kMaxRecovery, 2 * recovery);
      active = std::max(1, active - 1);
      spins = 0;
      last_change = now;
    } else if (now - last_change > recovery) {
      const int count = static_cast<int>(workers.size()) + 1;
      if (active == count) {
        recovery = std::max<Clock::duration>(kMinRecovery, recovery / 2);
      } else {
        ++active;
        active.notify_all();
      }
      spins = active == count ? kSpins : 0;
      last_change = now;
    }
  }
};

// Never destroyed: at the end of the process the workers may no longer exist.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

void set_threads(int count) { pool().resize(std::max(1, count)); }

int threads() { return static_cast<int>(pool().workers.size()) + 1; }

bool share_openmp(bool share) {
  pool().openmp = share ? find_openmp() : nullptr;
  return pool().openmp;
}

int active_threads() { return pool().active; }

void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  Pool& team = pool();
  const bool alone = chunks < 2 || team.workers.empty() || team.working.exchange(true);
  if (alone || (team.active == 1 && !team.openmp)) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    if (alone) return;
    team.adapt(Clock::now());
    team.working = false;
    return;
  }
  for (int64_t first = 0; first < chunks; first += kMaxChunks) {
    struct Shifted {
      void (*body)(void*, int64_t);
      void* context;
      int64_t first;
    } shifted{body, context, first};
    const auto work = [](void* from, int64_t chunk) {
      const auto& job = *static_cast<Shifted*>(from);
      job.body(job.context, job.first + chunk);
    };
    team.run(std::min(kMaxChunks, chunks - first), work, &shifted);
  }
  team.working = false;
}

}  // namespace convscope
