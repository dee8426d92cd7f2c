// Threads by OpenMP; without it everything runs on the caller's thread.
#include "core/parallel.h"

#include <atomic>

#if defined(SB_OPENMP)
#include <omp.h>
#endif

namespace softbellman::cpu {

#if defined(SB_OPENMP)
const char* threading_name() {
    return "openmp";
}

void run_threads(int threads, const std::function<void(int)>& task) {
    if (threads <= 1 || omp_in_parallel()) {
        for (int index = 0; index < threads; ++index) task(index);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        // The runtime may give fewer threads than asked for; every index still runs.
        for (int index = omp_get_thread_num(); index < threads; index += omp_get_num_threads()) task(index);
    }
}
#else
const char* threading_name() {
    return "none";
}

void run_threads(int threads, const std::function<void(int)>& task) {
    for (int index = 0; index < threads; ++index) task(index);
}
#endif

void run_chunks(int64_t rows, int64_t chunk, int threads, const std::function<void(int64_t, int64_t)>& body) {
    std::atomic<int64_t> next{0};
    run_threads(threads, [&](int) {
        for (;;) {
            const int64_t first = next.fetch_add(chunk, std::memory_order_relaxed);
            if (first >= rows) return;
            body(first, std::min(first + chunk, rows));
        }
    });
}

}  // namespace softbellman::cpu
