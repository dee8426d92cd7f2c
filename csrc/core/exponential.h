// The CPU kernels' own exponential (core/vector_math.h) on its own, for tests and measurements.
#pragma once

#include "core/rows.h"

namespace softbellman::cpu {

// result[i] = exp(scale * x[i]) for `count` float32 (dtype 0) or float64 (1) numbers.
void exponential(const void* x, int64_t count, int dtype, double scale, void* result);

}  // namespace softbellman::cpu
