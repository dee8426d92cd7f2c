// The vector instruction set of this process: what the processor has, lowered by SOFTBELLMAN_SIMD.
#include "core/simd.h"

#include <cstdlib>
#include <string>

namespace softbellman::cpu {
namespace {

SimdLevel detect() {
    int level = 0;
#if SB_X86_DISPATCH
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512cd");
    level = avx2 ? (avx512 ? 2 : 1) : 0;
#endif
    const char* wanted = std::getenv("SOFTBELLMAN_SIMD");
    if (wanted != nullptr) {
        const std::string name(wanted);
        if (name == "baseline") level = 0;
        if (name == "avx2" && level > 1) level = 1;
    }
    return static_cast<SimdLevel>(level);
}

}  // namespace

SimdLevel simd_level() {
    static const SimdLevel level = detect();
    return level;
}

const char* simd_name(SimdLevel level) {
    switch (level) {
        case SimdLevel::kAvx512:
            return "avx512";
        case SimdLevel::kAvx2:
            return "avx2";
        default:
            return "baseline";
    }
}

const char* simd_targets() {
    return SB_X86_DISPATCH ? "baseline avx2 avx512" : "baseline";
}

}  // namespace softbellman::cpu
