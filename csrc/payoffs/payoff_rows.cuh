// What the payoffs of captions share on the device: a warp's view of one sequence.
#pragma once
#include "payoffs/bleu.h"
#include "core/launch.cuh"

namespace softbellman::cuda {

// The tokens before the first eos; the same in all lanes.
__device__ inline std::int32_t payoff_cut(const BleuProblem& problem, const std::int64_t* tokens, std::int32_t stated,
                                          int lane) {
    if (!problem.has_eos) return stated;
    for (std::int32_t start = 0; start < stated; start += 32) {
        const bool here = start + lane < stated && tokens[start + lane] == problem.eos;
        const unsigned ends = __ballot_sync(kFullWarp, here);
        if (ends) return start + __ffs(static_cast<int>(ends)) - 1;
    }
    return stated;
}

// Writes what `request` wants of a hypothesis, 32 prefixes at a time: lane i holds the payoff of prefix start + i + 1.
template <class Out, class Request>
struct PayoffWriter {
    const Request& request;
    std::int64_t row;
    std::int32_t width, length;  // T and the tokens that count
    double scale;
    int lane;
    double chunk_end = 0.0;  // the payoff of the last prefix of the chunk before

    // Zeros beyond the length; for an empty sentence its score of 0.
    __device__ void begin() const {
        Out* out = static_cast<Out*>(request.out);
        if (request.output == BleuOutput::sentence) {
            if (length == 0 && lane == 0) out[row] = Out(0);
            return;
        }
        for (std::int32_t t = length + lane; t < width; t += 32) out[row * width + t] = Out(0);
    }
    __device__ void chunk(std::int32_t start, double payoff) {
        const std::int32_t t = start + lane;
        Out* out = static_cast<Out*>(request.out);
        if (request.output == BleuOutput::sentence) {
            if (t + 1 == length) out[row] = static_cast<Out>(payoff);
            return;
        }
        const double value = scale * payoff;
        double before = __shfl_up_sync(kFullWarp, value, 1);
        if (lane == 0) before = chunk_end;
        chunk_end = __shfl_sync(kFullWarp, value, 31);
        if (t < length)
            out[row * width + t] = static_cast<Out>(request.output == BleuOutput::reward ? value - before : value);
    }
};

template <class Request>
__device__ double payoff_scale(const BleuProblem& problem, const Request& request, const std::int32_t* reference_lengths) {
    const bool scaled = request.output == BleuOutput::reward && request.scale_by_reference_length;
    return scaled ? bleu_mean_length(reference_lengths, problem.reference_count) : 1.0;
}

}  // namespace softbellman::cuda
