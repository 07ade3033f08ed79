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

// libgomp's entry for a parallel region (its ABI since GCC 4.9). Looked up and never linked, for a process must not
// have two OpenMP runtimes.
using GompParallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

GompParallel find_openmp() {
#if defined(__linux__)
  return reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

// A ticket is one number, so that claiming a chunk is one atomic addition and a late worker can never mistake an old
// job for a new one: 24 bits of generation, 20 of chunks, 20 of the next chunk to take.
constexpr int kBits = 20;
constexpr uint64_t kMask = (uint64_t{1} << kBits) - 1;
constexpr int64_t kMostChunks = int64_t{1} << (kBits - 1);  // the rest is room for late claims

constexpr int kAll = 1 << 30;
constexpr int kSpins = 20000;  // some 200 us: longer than the pause between two kernels of a training step
// A thread that has lost its core in the middle of a chunk keeps the others waiting for it: a stall. Waiting for the last
// chunk is none, which is why only waits count that are long, and long for what the calling thread worked.
constexpr auto kLongWait = std::chrono::microseconds(200);
constexpr double kLongShare = 0.5;
constexpr auto kLook = std::chrono::milliseconds(30);   // stalls are added up for so long,
constexpr double kMostStalled = 0.15;                   // and this share of it is too much: work with one thread less
constexpr auto kCalm = std::chrono::milliseconds(60);   // after so long without, try one more,
constexpr auto kMostCalm = std::chrono::milliseconds(960);  // waiting twice as long whenever that went wrong

struct Pool {
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<int> asleep{0};
  std::atomic<bool> working{false};
  std::atomic<int> active{1};  // threads that may work now
  std::atomic<int> spins{kSpins};
  std::atomic<bool> ending{false};
  void (*body)(void*, int64_t) = nullptr;
  void* context = nullptr;
  std::vector<std::thread> workers;
  GompParallel openmp = nullptr;  // who works, if not the workers

  Clock::time_point looked = Clock::now(), changed = looked;
  Clock::duration stalled{}, calm = kCalm;

  ~Pool() { resize(1); }

  void resize(int count) {
    ending = true;
    generation.fetch_add(1);
    generation.notify_all();
    active = kAll;
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
      body(context, chunk);  // both stay as they are until this chunk is counted as done
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
    if (waited > kLongWait && waited > kLongShare * (finished - began)) stalled += waited;
    adapt(now);
  }

  // Other processes on our cores show as stalls. Then work with fewer threads, and let them wait asleep.
  void adapt(Clock::time_point now) {
    if (now - looked < kLook) return;
    const bool busy = stalled > kMostStalled * (now - looked);
    looked = now;
    stalled = {};
    if (busy) {
      calm = std::min<Clock::duration>(kMostCalm, 2 * calm);
      active = std::max(1, active - 1);
      spins = 0;
      changed = now;
    } else if (now - changed > calm) {
      const int most = static_cast<int>(workers.size()) + 1;
      if (active == most) {
        calm = std::max<Clock::duration>(kCalm, calm / 2);
      } else {
        ++active;
        active.notify_all();
      }
      spins = active == most ? kSpins : 0;
      changed = now;
    }
  }
};

// Never destroyed: at the end of the process the workers may be gone already.
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
  for (int64_t first = 0; first < chunks; first += kMostChunks) {
    struct Shifted {
      void (*body)(void*, int64_t);
      void* context;
      int64_t first;
    } shifted{body, context, first};
    const auto work = [](void* from, int64_t chunk) {
      const auto& job = *static_cast<Shifted*>(from);
      job.body(job.context, job.first + chunk);
    };
    team.run(std::min(kMostChunks, chunks - first), work, &shifted);
  }
  team.working = false;
}

}  // namespace convscope
