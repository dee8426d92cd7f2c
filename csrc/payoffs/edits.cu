// Random edits and their densities on the device: the CPU's row functions with a warp in place of its one lane.
//
// One launch, a warp a sample. Lanes take positions (ngram, corrupt), changes and steps of the script drawn ahead (hamming,
// edit), orders of the n-gram density and, in the density of the edit proposal, the operations left; its (E + 3) x (E + 2)
// doubles lie in shared memory. References are read a few times, samples and densities written once. No floating-point sum
// crosses lanes in an order that the CPU's would not have: same tokens, same bits.
#include "payoffs/edits.h"

#include <algorithm>

#include "core/launch.cuh"
#include "payoffs/edit_density.h"

namespace softbellman::cuda {
namespace {

constexpr unsigned kEditWarps = 4;
constexpr std::int64_t kSharedBytes = 48 * 1024;

struct WarpLanes {
    int lane;
    static constexpr int size = 32;
    __device__ void sync() const { __syncwarp(); }
    template <class T>
    __device__ T broadcast(T value, int from) const {
        return __shfl_sync(kFullWarp, value, from);
    }
    __device__ std::int32_t sum(std::int32_t value) const {
        for (int bits = size / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kFullWarp, value, bits);
        return value;
    }
    __device__ std::int32_t before(bool flag) const { return __popc(__ballot_sync(kFullWarp, flag) & ((1u << lane) - 1u)); }
    __device__ std::int32_t maximum(std::int32_t value) const {
        for (int bits = size / 2; bits > 0; bits /= 2) {
            const std::int32_t other = __shfl_xor_sync(kFullWarp, value, bits);
            value = other > value ? other : value;
        }
        return value;
    }
};

__global__ void edit_rows_kernel(EditProblem problem, int cells) {
    SB_DYNAMIC_SHARED(shared);
    const std::int64_t per_block = blockDim.x / kWarpSize, warp = threadIdx.x / kWarpSize;
    double* scratch = reinterpret_cast<double*>(shared) + warp * cells;
    const WarpLanes lanes{static_cast<int>(threadIdx.x % kWarpSize)};
    const std::int64_t rows = problem.rows();
    for (std::int64_t row = blockIdx.x * per_block + warp; row < rows; row += gridDim.x * per_block)
        edit_row(problem, row, scratch, lanes);
}

}  // namespace

void edit_rows(const EditProblem& problem, const Launch& launch) {
    const std::int64_t rows = problem.rows();
    if (rows == 0) return;
    const std::int64_t cells = problem.proposal == EditProposal::edit ? edit_cells(problem.max_distance) : 0;
    const std::int64_t fitting = cells == 0 ? kEditWarps : kSharedBytes / (8 * cells);
    const auto warps = static_cast<unsigned>(std::min<std::int64_t>(fitting, kEditWarps));
    DeviceGuard guard(launch.device);
    SB_LAUNCH(edit_rows_kernel, blocks_for(rows, warps), warps * kWarpSize, static_cast<std::size_t>(8 * cells * warps),
              launch.stream, problem, static_cast<int>(cells));
    check_launch("edit_rows");
}

}  // namespace softbellman::cuda
