// Rows over threads. A row belongs to one thread, so results never depend on the number of threads; rows are handed out in
// small chunks because masked rows and a busy machine make equal shares unequal work.
//
// With OpenMP the threads are torch's own: both link libgomp.so.1, hence one pool in the process (docs/native.md has the
// measurement). Where the compiler has no OpenMP, the caller's thread does all the work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace softbellman::cpu {

// Elements below which a second thread costs more than it brings (one region costs a few microseconds).
constexpr int64_t kSerialElements = 1 << 15;

// Runs task(0..threads-1), one call per thread, and returns when all are done. Serial inside another parallel region. Throws
// in the child of a fork where it would wait for threads that are not there.
void run_threads(int threads, const std::function<void(int)>& task);
const char* threading_name();  // "openmp", or "none"

// Calls body(first, last) on chunks that cover [0, rows), drawn from one shared counter.
void run_chunks(int64_t rows, int64_t chunk, int threads, const std::function<void(int64_t, int64_t)>& body);

template <class Body>
void parallel_rows(int64_t rows, int threads, int64_t elements_per_row, const Body& body) {
    if (rows <= 0) return;
    const int64_t elements = rows * std::max<int64_t>(elements_per_row, 1);
    const int64_t useful = std::min<int64_t>(rows, elements / kSerialElements + 1);
    const int workers = static_cast<int>(std::min<int64_t>(std::max(threads, 1), useful));
    if (workers == 1) {
        body(int64_t{0}, rows);
        return;
    }
    run_chunks(rows, std::max<int64_t>(1, rows / (int64_t{16} * workers)), workers, body);
}

}  // namespace softbellman::cpu
