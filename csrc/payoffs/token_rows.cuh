// What the payoffs share on the device: a warp's view of one sequence, and the results of one hypothesis.
#pragma once
#include "core/launch.cuh"
#include "payoffs/token_batch.h"

namespace softbellman::cuda {

// The tokens of a row before the first eos; the same in all lanes.
__device__ inline std::int32_t cut_length(const TokenIds& ids, const TokenMatrix& matrix, std::int64_t source,
                                          std::int64_t row, int lane) {
    const std::int64_t* tokens = matrix.row(source, row);
    const std::int32_t stated = matrix.stated_length(source, row);
    if (!ids.has_eos) return stated;
    for (std::int32_t start = 0; start < stated; start += 32) {
        const bool here = start + lane < stated && tokens[start + lane] == ids.eos;
        const unsigned ends = __ballot_sync(kFullWarp, here);
        if (ends) return start + __ffs(static_cast<int>(ends)) - 1;
    }
    return stated;
}

// Calls per_hypothesis(row, lane) with all lanes of a warp.
template <class PerHypothesis>
__device__ void for_each_hypothesis(const TokenBatch& batch, const PerHypothesis& per_hypothesis) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarpSize);
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
    for (std::int64_t row = first; row < batch.hypotheses.count(); row += warps) per_hypothesis(row, lane);
}

// Writes what `result` wants of a hypothesis, 32 prefixes at a time: lane i holds the payoff of prefix start + i + 1.
template <class Out>
struct PayoffWriter {
    const PayoffResult& result;
    std::int64_t row;
    std::int32_t width, length;  // T and the tokens that count
    double scale;
    int lane;
    double chunk_end = 0.0;  // the payoff of the last prefix of the chunk before

    // Zeros beyond the length; for an empty sentence its score of 0.
    __device__ void begin() const {
        Out* out = static_cast<Out*>(result.out);
        if (result.output == PayoffOutput::sentence) {
            if (length == 0 && lane == 0) out[row] = Out(0);
            return;
        }
        for (std::int32_t t = length + lane; t < width; t += 32) out[row * width + t] = Out(0);
    }
    // Whether the payoff of the prefix that ends at t is written or needed.
    __device__ bool wants(std::int32_t t) const {
        return t < length && (result.output != PayoffOutput::sentence || t + 1 == length);
    }
    __device__ void chunk(std::int32_t start, double payoff) {
        const std::int32_t t = start + lane;
        Out* out = static_cast<Out*>(result.out);
        if (result.output == PayoffOutput::sentence) {
            if (t + 1 == length) out[row] = static_cast<Out>(payoff);
            return;
        }
        const double value = exact_multiply(scale, payoff);
        double before = __shfl_up_sync(kFullWarp, value, 1);
        if (lane == 0) before = chunk_end;
        chunk_end = __shfl_sync(kFullWarp, value, 31);
        if (t < length)
            out[row * width + t] =
                static_cast<Out>(result.output == PayoffOutput::reward ? exact_add(value, -before) : value);
    }
};

}  // namespace softbellman::cuda
