// The two thread back-ends behind run_threads: OpenMP, and a pool of our own whose threads sleep on a condition variable.
// SOFTBELLMAN_THREADING=pool in the environment chooses the second where both are there.
#include "core/parallel.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#if defined(SB_OPENMP)
#include <omp.h>
#endif

namespace softbellman::cpu {
namespace {

// Sleeping workers; one job at a time, a second caller runs its job alone. Never destroyed: joining threads during the
// interpreter's shutdown can hang.
class Pool {
 public:
    void run(int threads, const std::function<void(int)>& task) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) {
            for (int index = 0; index < threads; ++index) task(index);
            return;
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(workers_.size()) < threads - 1) {
                const int index = static_cast<int>(workers_.size()) + 1;
                const uint64_t seen = generation_;
                workers_.emplace_back([this, index, seen] { work(index, seen); });
                workers_.back().detach();
            }
            task_ = &task;
            threads_ = threads;
            pending_ = threads - 1;
            ++generation_;
        }
        wake_.notify_all();
        task(0);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return pending_ == 0; });
    }

 private:
    void work(int index, uint64_t seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (index >= threads_) continue;
            const std::function<void(int)>* task = task_;
            lock.unlock();
            (*task)(index);
            lock.lock();
            if (--pending_ == 0) done_.notify_one();
        }
    }

    std::mutex turn_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    const std::function<void(int)>* task_ = nullptr;
    uint64_t generation_ = 0;
    int threads_ = 0;
    int pending_ = 0;
};

void run_serially(int threads, const std::function<void(int)>& task) {
    for (int index = 0; index < threads; ++index) task(index);
}

#if defined(SB_OPENMP)
constexpr bool kHasOpenMp = true;

void run_openmp(int threads, const std::function<void(int)>& task) {
    if (omp_in_parallel()) return run_serially(threads, task);
#pragma omp parallel num_threads(threads)
    {
        // The runtime may give fewer threads than asked for; every index still runs.
        for (int index = omp_get_thread_num(); index < threads; index += omp_get_num_threads()) task(index);
    }
}
#else
constexpr bool kHasOpenMp = false;

void run_openmp(int threads, const std::function<void(int)>& task) {
    run_serially(threads, task);
}
#endif

bool use_openmp() {
    static const bool chosen = [] {
        const char* wanted = std::getenv("SOFTBELLMAN_THREADING");
        return kHasOpenMp && (wanted == nullptr || std::strcmp(wanted, "pool") != 0);
    }();
    return chosen;
}

}  // namespace

const char* threading_name() {
    return use_openmp() ? "openmp" : "pool";
}

void run_threads(int threads, const std::function<void(int)>& task) {
    if (threads <= 1) return run_serially(threads, task);
    if (use_openmp()) return run_openmp(threads, task);
    static Pool* const pool = new Pool;
    pool->run(threads, task);
}

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
