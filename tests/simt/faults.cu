// Kernels with planted mistakes, and one without: what the SIMT shim must notice (tests/simt/test_shim.py).
#include <cstdlib>
#include <cstring>

#include "core/launch.cuh"

namespace {

constexpr unsigned kBlocks = 4;

enum SplitFault { kSplitNone, kMissingFence, kNoTicketReset, kArrivalOrder };

// Sums kBlocks numbers whose float32 sum depends on the order, each of another block; the last block to come merges.
__global__ void split_sum(const float* values, float* partials, unsigned* ticket, float* total, int fault) {
    if (fault == kArrivalOrder) {
        atomicAdd(total, values[blockIdx.x]);
        return;
    }
    partials[blockIdx.x] = values[blockIdx.x];
    if (fault != kMissingFence) __threadfence();
    const unsigned drawn = atomicInc(ticket, fault == kNoTicketReset ? ~0u : kBlocks - 1);
    if (drawn != kBlocks - 1) return;
    float sum = 0;
    __threadfence();
    for (unsigned b = 0; b < kBlocks; ++b) sum += __ldcg(partials + b);
    *total = sum;
}

enum Fault { kNone, kMissingBarrier, kDivergentBarrier, kMissingLane, kOutOfBounds, kMisaligned };

// Sums `count` = 64 numbers: the two warps meet in shared memory.
__global__ void sum_64(const float* values, float* total, int fault) {
    SB_SHARED(float, partial, 64);
    const unsigned t = threadIdx.x;
    const float value = values[t + (fault == kOutOfBounds ? 1 : 0)];
    partial[t] = value;
    if (fault == kDivergentBarrier && t == 5) return;
    if (fault != kMissingBarrier) __syncthreads();
    float sum = partial[t] + partial[t ^ 32];
    if (fault == kMissingLane && t == 3) {
        total[0] = sum;
        return;
    }
    for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (t == 0) total[0] = sum;
    if (fault == kMisaligned && t == 0) total[0] = __ldg(reinterpret_cast<const float4*>(values + 1)).x;
}

}  // namespace

extern "C" int simt_run_fault(int fault, float* total, char* message, std::size_t size) {
    float* values = static_cast<float*>(std::aligned_alloc(16, 64 * sizeof(float)));
    for (int i = 0; i < 64; ++i) values[i] = static_cast<float>(i);
    int status = 0;
    try {
        SB_LAUNCH(sum_64, 1, 64, 0, nullptr, values, total, fault);
        softbellman::cuda::check_launch("sum_64");
    } catch (const std::exception& error) {
        std::strncpy(message, error.what(), size - 1);
        status = 1;
    }
    std::free(values);
    return status;
}

// Launched twice with the same tickets, as a graph does; `total` is that of the second launch.
extern "C" int simt_run_split_fault(int fault, float* total, char* message, std::size_t size) {
    const float values[kBlocks] = {1.0f, 1e8f, -1e8f, 1.0f};
    float partials[kBlocks] = {};
    unsigned ticket = 0;
    try {
        for (int launch = 0; launch < 2; ++launch) {
            *total = 0;
            SB_LAUNCH(split_sum, kBlocks, 1, 0, nullptr, values, partials, &ticket, total, fault);
            softbellman::cuda::check_launch("split_sum");
        }
    } catch (const std::exception& error) {
        std::strncpy(message, error.what(), size - 1);
        return 1;
    }
    return 0;
}

#ifdef SIMT_FAULTS_MAIN
int main(int argc, char** argv) {
    float total = -1;
    char message[200] = "";
    const int status = simt_run_fault(argc > 1 ? std::atoi(argv[1]) : 0, &total, message, sizeof message);
    std::printf("status %d total %g %s\n", status, total, message);
}
#endif
