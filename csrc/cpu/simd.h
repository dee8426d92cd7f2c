// Run-time choice of the vector instructions. A kernel is a struct with a member template `rows<T>(first, last)`; run_kernel
// compiles it three times (baseline, AVX2 + FMA, AVX-512) and calls the best that the processor has. Everything a kernel
// calls inside its loops must be SB_INLINE, else it would stay compiled for the baseline.
//
// The environment variable SOFTBELLMAN_SIMD (baseline, avx2, avx512) lowers the choice, for tests and for measurements.
#pragma once

#include "../common/portability.h"
#include "kernels.h"
#include "parallel.h"

#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
#define SB_X86_DISPATCH 1
#if defined(__clang__)
#define SB_TARGET_AVX512 __attribute__((target("arch=x86-64-v4")))
#else
#define SB_TARGET_AVX512 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
#endif
#define SB_TARGET_AVX2 __attribute__((target("arch=x86-64-v3")))
#else
#define SB_X86_DISPATCH 0
#endif

namespace softbellman::cpu {

enum class SimdLevel : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The level in use, decided once per process.
SimdLevel simd_level();
const char* simd_name(SimdLevel level);
const char* simd_targets();

template <class Kernel, class T>
void rows_baseline(const Kernel& kernel, int64_t first, int64_t last) {
    kernel.template rows<T>(first, last);
}

#if SB_X86_DISPATCH
template <class Kernel, class T>
SB_TARGET_AVX2 void rows_avx2(const Kernel& kernel, int64_t first, int64_t last) {
    kernel.template rows<T>(first, last);
}

template <class Kernel, class T>
SB_TARGET_AVX512 void rows_avx512(const Kernel& kernel, int64_t first, int64_t last) {
    kernel.template rows<T>(first, last);
}
#endif

template <class Kernel, class T>
void run_typed(const Kernel& kernel, const Rows& shape) {
    auto function = &rows_baseline<Kernel, T>;
#if SB_X86_DISPATCH
    if (simd_level() == SimdLevel::kAvx512) function = &rows_avx512<Kernel, T>;
    if (simd_level() == SimdLevel::kAvx2) function = &rows_avx2<Kernel, T>;
#endif
    parallel_rows(shape.rows, shape.threads, shape.vocab,
                  [&](int64_t first, int64_t last) { function(kernel, first, last); });
}

template <class Kernel>
void run_kernel(const Kernel& kernel, const Rows& shape) {
    switch (shape.dtype) {
        case kFloat32:
            return run_typed<Kernel, float>(kernel, shape);
        case kFloat64:
            return run_typed<Kernel, double>(kernel, shape);
        case kBFloat16:
            return run_typed<Kernel, BFloat16>(kernel, shape);
        case kFloat16:
            return run_typed<Kernel, Float16>(kernel, shape);
    }
}

}  // namespace softbellman::cpu
