// Threads by OpenMP; without it everything runs on the caller's thread.
#include "core/parallel.h"

#include <atomic>

#if defined(SB_OPENMP)
#include <omp.h>
#endif

// LLVM's runtime starts its threads anew in the child of a fork; GNU's waits for those of the parent without end.
#if defined(SB_OPENMP) && !defined(__clang__)
#include <pthread.h>

#include <stdexcept>
#define SB_FORK_LOSES_THREADS
#endif

namespace softbellman::cpu {
namespace {

#if defined(SB_FORK_LOSES_THREADS)
// Of the thread that asks: a child process has one thread, the one that forked, with what that knew.
thread_local bool has_team = false, lost_team = false;

void lose_team() {
    lost_team = has_team;
}

void expect_team() {
    [[maybe_unused]] static const int kWatching = pthread_atfork(nullptr, nullptr, lose_team);
    if (lost_team)
        throw std::runtime_error(
            "this process was forked from one that had computed with several threads, which do not live on in it; call "
            "torch.set_num_threads(1) in the child, or start it by the method 'spawn'.");
    has_team = true;
}
#elif defined(SB_OPENMP)
void expect_team() {}
#endif

}  // namespace

#if defined(SB_OPENMP)
const char* threading_name() {
    return "openmp";
}

void run_threads(int threads, const std::function<void(int)>& task) {
    if (threads <= 1 || omp_in_parallel()) {
        for (int index = 0; index < threads; ++index) task(index);
        return;
    }
    expect_team();
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
