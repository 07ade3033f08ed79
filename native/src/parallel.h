// A thread pool whose results do not depend on the number of threads: work is cut into chunks that the caller fixes, and
// whichever thread is free takes the next one. The calling thread works too, so a sleeping worker delays nothing.
#pragma once

#include <cstdint>
#include <type_traits>

namespace convscope {

// Threads that work, the caller included. At least 1.
void set_threads(int count);
int threads();

// Whether the work goes to the threads of the OpenMP runtime that the process has loaded already (torch's), so that its
// threads and ours never want the same cores. Returns whether it does: only GNU's runtime can be found.
bool share_openmp(bool share);

// Threads that took part lately: fewer than threads() while other processes want the cores.
int active_threads();

// Calls body(context, chunk) once for every chunk in [0, chunks), on any thread, and returns when all are done.
// A call from inside a body, or beside another thread's call, runs on the calling thread alone. body must not throw.
void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context);

template <class Body>
void parallel_for(int64_t chunks, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_chunks(chunks, [](void* context, int64_t chunk) { (*static_cast<Plain*>(context))(chunk); }, &body);
}

}  // namespace convscope
