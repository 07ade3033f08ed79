// A thread pool whose results do not depend on the number of threads: the caller fixes how work is cut into chunks, and
// every free thread takes the next chunk. The calling thread works too, so a sleeping worker delays nothing.
#pragma once

#include <cstdint>
#include <type_traits>

namespace convscope {

// The number of threads, including the calling one; at least 1.
void set_threads(int count);
int threads();

// Runs the chunks on the threads of the OpenMP runtime that the process has loaded (PyTorch's), so that the two sets of
// threads do not compete for cores. Returns whether they do: only GNU's runtime can be found.
bool share_openmp(bool share);

// The number of threads in use: fewer than threads() while other processes need the cores.
int active_threads();

// Calls body(context, chunk) once for every chunk in [0, chunks), on any thread, and returns when all are done. A call
// from within a body, or while another thread's call is running, uses the calling thread only. body must not throw.
void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context);

template <class Body>
void parallel_for(int64_t chunks, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_chunks(chunks, [](void* context, int64_t chunk) { (*static_cast<Plain*>(context))(chunk); }, &body);
}

}  // namespace convscope
