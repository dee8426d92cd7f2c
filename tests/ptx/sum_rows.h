// Sums of rows by reduce_row (core/split_rows.cuh), compiled once as it stands and once for each mistake planted into a copy
// of the header; every object enters its launcher here.
#pragma once

#include <cstdint>
#include <map>

#include "core/device.h"

namespace ptx {

using SumRows = void (*)(const float* values, std::int64_t rows, std::int64_t length, float* totals,
                         const softbellman::cuda::Launch& launch);

inline std::map<int, SumRows>& sum_rows_variants() {
    static std::map<int, SumRows> variants;
    return variants;
}

}  // namespace ptx
