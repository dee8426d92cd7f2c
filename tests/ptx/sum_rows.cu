// Variant SB_VARIANT of the sums of rows: the loop of a forward kernel around reduce_row, with a state of two words.
#include "sum_rows.h"

#include "core/families.cuh"

namespace {

using namespace softbellman::cuda;

struct Sum {
    float plain = 0, squares = 0;
};

template <int kVariant>
__global__ void sum_rows(const float* values, std::int64_t rows, int length, RowStrands strands, float* totals) {
    const auto merge = [](Sum a, const Sum& b) { return Sum{a.plain + b.plain, a.squares + b.squares}; };
    for (std::int64_t row = first_row(); row < rows; row += row_step()) {
        const float* const start = values + row * length;
        const auto read = [&](int first, int last) {
            Sum sum;
            for (int j = first + warp_lane(); j < last; j += kWarp)
                for (int k = 4 * j; k < 4 * j + 4 && k < length; ++k) {
                    sum.plain += start[k];
                    sum.squares += start[k] * start[k];
                }
            return sum;
        };
        Sum total;
        if (!reduce_row(strands, row, (length + 3) / 4, total, read, merge)) continue;
        totals[2 * row] = total.plain;
        totals[2 * row + 1] = total.squares;
    }
}

void launch_sums(const float* values, std::int64_t rows, std::int64_t length, float* totals, const Launch& launch) {
    const StrandLaunch plan = strand_launch<float, Sum>(rows, length, 1024, launch);
    const auto kernel = sum_rows<SB_VARIANT>;
    SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, values, rows, static_cast<int>(length),
              plan.strands, totals);
    check_launch("sum_rows");
}

[[maybe_unused]] const bool kEntered = (ptx::sum_rows_variants()[SB_VARIANT] = launch_sums) != nullptr;

}  // namespace
