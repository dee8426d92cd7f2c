// Run-time choice of the vector instructions. A kernel is a struct template with a member template `rows<T>(first, last)`,
// made from its parameters, whose flag says whether multiplications and additions may be fused; run_kernel compiles it
// three times (baseline, AVX2 + FMA, AVX-512) and calls the best that the processor has. Everything a kernel
// calls inside its loops must be SB_INLINE, else it would stay compiled for the baseline.
//
// The environment variable SOFTBELLMAN_SIMD (baseline, avx2, avx512) lowers the choice, for tests and for measurements.
#pragma once

#include "core/parallel.h"
#include "core/portability.h"
#include "core/rows.h"

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

// Whether the baseline's code has fused multiply-add: where the compiler was told so, and on other processors.
#if SB_X86_DISPATCH && !defined(__FMA__)
constexpr bool kBaselineFuses = false;
#else
constexpr bool kBaselineFuses = true;
#endif

template <template <bool> class Kernel, class T, class... Members>
void run_typed(const Rows& shape, int threads, const Members&... members) {
#if SB_X86_DISPATCH
    if (simd_level() != SimdLevel::kBaseline) {
        const Kernel<true> kernel{members...};
        const auto function =
            simd_level() == SimdLevel::kAvx512 ? &rows_avx512<Kernel<true>, T> : &rows_avx2<Kernel<true>, T>;
        parallel_rows(shape.rows, threads, shape.vocab, [&](int64_t first, int64_t last) { function(kernel, first, last); });
        return;
    }
#endif
    const Kernel<kBaselineFuses> kernel{members...};
    parallel_rows(shape.rows, threads, shape.vocab,
                  [&](int64_t first, int64_t last) { rows_baseline<Kernel<kBaselineFuses>, T>(kernel, first, last); });
}

template <template <bool> class Kernel, class... Members>
void run_kernel(const Rows& shape, int threads, const Members&... members) {
    switch (shape.dtype) {
        case kFloat32:
            return run_typed<Kernel, float>(shape, threads, members...);
        case kFloat64:
            return run_typed<Kernel, double>(shape, threads, members...);
        case kBFloat16:
            return run_typed<Kernel, BFloat16>(shape, threads, members...);
        case kFloat16:
            return run_typed<Kernel, Float16>(shape, threads, members...);
    }
}

}  // namespace softbellman::cpu
