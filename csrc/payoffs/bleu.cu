// Prefix, sentence and corpus BLEU on the device; the index, the formulas and the layout of the workspace are the CPU's.
//
// Two launches. build_index: a block for each source inserts its references' n-grams, one reference and one order after
// the other, threads over positions. walk_hypotheses: a warp for each hypothesis takes 32 positions at a time, one lane
// each:
//   1. the nodes of the n-grams that end at the lane's position, order by order, each from the neighbour's shorter one;
//   2. how many equal n-grams lie before it: those of earlier chunks from the hypothesis's counters, those of this chunk
//      from a match over the warp; so whether it is clipped, and by a ballot the matches of its prefix;
//   3. the score of its prefix.
// Tokens are read once (twice with an eos), scores written once; no floating-point sum crosses lanes, so results do not
// depend on the batch. Workspace, O(1) words for each reference token and order: an index for each source and a block of
// counters for each hypothesis.
#include "payoffs/bleu.h"

#include <algorithm>

#include "payoffs/ngram_index.h"
#include "core/launch.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kBuildThreads = 128, kWalkThreads = 128;

struct BlockLanes {
    std::int32_t lane, size;
    __device__ void sync() const { __syncthreads(); }
    __device__ static unsigned long long claim(unsigned long long* slot, unsigned long long value) {
        return atomicCAS(slot, 0ull, value);
    }
    __device__ static std::int32_t add(std::int32_t* value, std::int32_t by) { return atomicAdd(value, by); }
    __device__ static void maximum(std::int32_t* value, std::int32_t other) { atomicMax(value, other); }
    __device__ static void minimum(std::int32_t* value, std::int32_t other) { atomicMin(value, other); }
};

__global__ void build_index(BleuProblem problem, char* workspace) {
    const NgramIndexLayout layout(problem);
    const BlockLanes block{static_cast<std::int32_t>(threadIdx.x), static_cast<std::int32_t>(blockDim.x)};
    for (std::int64_t b = blockIdx.x; b < problem.sources; b += gridDim.x) {
        const NgramIndex index = layout.place(workspace + b * layout.bytes(), problem.source_references(b));
        build_ngram_index(index, problem, b, block);
    }
}

__device__ std::int32_t cut_length(const BleuProblem& problem, const std::int64_t* tokens, std::int32_t stated, int lane) {
    if (!problem.has_eos) return stated;
    for (std::int32_t start = 0; start < stated; start += 32) {
        const bool here = start + lane < stated && tokens[start + lane] == problem.eos;
        const unsigned ends = __ballot_sync(kFullWarp, here);
        if (ends) return start + __ffs(static_cast<int>(ends)) - 1;
    }
    return stated;
}

// Calls at_prefix(active, t + 1, matches) in all lanes of each chunk; `active` where t is a position of the hypothesis.
template <class AtPrefix>
__device__ void walk(const NgramIndex& index, std::int32_t* counters, const BleuProblem& problem, const std::int64_t* tokens,
                     std::int32_t length, int lane, const AtPrefix& at_prefix) {
    const int max_order = problem.max_order;
    for (std::int32_t i = lane; i < index.node_count; i += 32) counters[i] = 0;
    __syncwarp();
    std::int64_t carried[kBleuMaxOrder];  // matches of the chunks before
    std::int32_t left[kBleuMaxOrder];     // nodes of the position before this chunk
    for (int n = 0; n < kBleuMaxOrder; ++n) carried[n] = 0, left[n] = kNoNode;
    const unsigned up_to_here = kFullWarp >> (31 - lane);

    for (std::int32_t start = 0; start < length; start += 32) {
        const std::int32_t t = start + lane;
        std::int32_t token_node = kNoNode;
        if (t < length && !(problem.has_unmatched && tokens[t] == problem.unmatched))
            token_node = index.find_token(tokens[t]);
        std::int64_t matches[kBleuMaxOrder];
        std::int32_t node = token_node;
        for (int n = 0; n < max_order; ++n) {
            if (n > 0) {
                std::int32_t parent = __shfl_up_sync(kFullWarp, node, 1);
                const std::int32_t last = __shfl_sync(kFullWarp, node, 31);
                if (lane == 0) parent = left[n - 1];
                left[n - 1] = last;
                node = parent == kNoNode || token_node == kNoNode ? kNoNode : index.find_child(parent, token_node);
            }
            const unsigned equal = __match_any_sync(kFullWarp, node);
            bool match = false;
            if (node != kNoNode) {
                const std::int32_t before = counters[node];
                match = before + __popc(equal & up_to_here) <= index.clip[node];
            }
            __syncwarp();  // every lane has read its counter
            if (node != kNoNode && __ffs(static_cast<int>(equal)) - 1 == lane) counters[node] += __popc(equal);
            const unsigned matching = __ballot_sync(kFullWarp, match);
            matches[n] = carried[n] + __popc(matching & up_to_here);
            carried[n] += __popc(matching);
        }
        __syncwarp();  // counters are written before the next chunk reads them
        at_prefix(t < length, t + 1, matches);
    }
}

template <class Out>
__device__ void score(const NgramIndex& index, std::int32_t* counters, const BleuProblem& problem,
                      const BleuScoreRequest& request, std::int64_t b, std::int64_t k, int lane) {
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = cut_length(problem, tokens, problem.stated_length(b, k), lane);
    const std::int64_t row = b * problem.samples + k;
    const auto payoff = [&](std::int32_t prefix, const std::int64_t* matches) {
        const double brevity =
            bleu_brevity_penalty(prefix, bleu_closest_length(index.lengths, problem.reference_count, prefix));
        return bleu_prefix_score(matches, prefix, problem.max_order, brevity, request.scoring);
    };
    if (request.output == BleuOutput::sentence) {
        Out* out = static_cast<Out*>(request.out) + row;
        if (length == 0 && lane == 0) *out = Out(0);
        walk(index, counters, problem, tokens, length, lane,
             [&](bool active, std::int32_t prefix, const std::int64_t* matches) {
                 if (active && prefix == length) *out = static_cast<Out>(payoff(prefix, matches));
             });
        return;
    }
    Out* out = static_cast<Out*>(request.out) + row * problem.length;
    for (std::int32_t t = length + lane; t < problem.length; t += 32) out[t] = Out(0);
    const bool rewards = request.output == BleuOutput::reward;
    const double scale =
        rewards && request.scale_by_reference_length ? bleu_mean_length(index.lengths, problem.reference_count) : 1.0;
    double chunk_end = 0.0;  // the payoff of the last prefix of the chunk before
    walk(index, counters, problem, tokens, length, lane, [&](bool active, std::int32_t prefix, const std::int64_t* matches) {
        const double value = active ? scale * payoff(prefix, matches) : 0.0;
        double before = __shfl_up_sync(kFullWarp, value, 1);
        if (lane == 0) before = chunk_end;
        chunk_end = __shfl_sync(kFullWarp, value, 31);
        if (active) out[prefix - 1] = static_cast<Out>(rewards ? value - before : value);
    });
}

__device__ void count(const NgramIndex& index, std::int32_t* counters, const BleuProblem& problem,
                      const BleuCountRequest& request, std::int64_t b, std::int64_t k, int lane) {
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = cut_length(problem, tokens, problem.stated_length(b, k), lane);
    const std::int64_t row = b * problem.samples + k, width = 2 * problem.max_order + 2;
    const auto write = [&](std::int64_t* out, std::int32_t prefix, const std::int64_t* matches) {
        const std::int32_t closest = bleu_closest_length(index.lengths, problem.reference_count, prefix);
        bleu_write_counts(out, matches, prefix, problem.max_order, closest);
    };
    std::int64_t* out = request.out + row * width * (request.every_prefix ? problem.length : 1);
    if (request.every_prefix) {
        for (std::int64_t i = length * width + lane; i < problem.length * width; i += 32) out[i] = 0;
    } else if (length == 0 && lane == 0) {
        const std::int64_t none[kBleuMaxOrder] = {};
        write(out, 0, none);
    }
    walk(index, counters, problem, tokens, length, lane, [&](bool active, std::int32_t prefix, const std::int64_t* matches) {
        if (!active) return;
        if (request.every_prefix)
            write(out + (prefix - 1) * width, prefix, matches);
        else if (prefix == length)
            write(out, prefix, matches);
    });
}

__device__ void write_results(const NgramIndex& index, std::int32_t* counters, const BleuProblem& problem,
                              const BleuScoreRequest& request, std::int64_t b, std::int64_t k, int lane) {
    if (request.float64)
        score<double>(index, counters, problem, request, b, k, lane);
    else
        score<float>(index, counters, problem, request, b, k, lane);
}
__device__ void write_results(const NgramIndex& index, std::int32_t* counters, const BleuProblem& problem,
                              const BleuCountRequest& request, std::int64_t b, std::int64_t k, int lane) {
    count(index, counters, problem, request, b, k, lane);
}

// Request: what to write about each hypothesis.
template <class Request>
__global__ void walk_hypotheses(BleuProblem problem, Request request, char* workspace) {
    const NgramIndexLayout layout(problem);
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarpSize);
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
    auto* all_counters = reinterpret_cast<std::int32_t*>(workspace + problem.sources * layout.bytes());
    for (std::int64_t row = first; row < problem.sources * problem.samples; row += warps) {
        const std::int64_t b = row / problem.samples, k = row % problem.samples;
        const NgramIndex index = layout.place(workspace + b * layout.bytes(), problem.source_references(b));
        std::int32_t* counters = all_counters + row * layout.node_count;
        write_results(index, counters, problem, request, b, k, lane);
    }
}

template <class Request>
void launch(const BleuProblem& problem, const Request& request, void* workspace, int device, void* stream) {
    const std::int64_t hypotheses = problem.sources * problem.samples;
    if (hypotheses == 0) return;
    DeviceGuard guard(device);
    char* memory = static_cast<char*>(workspace);
    SB_LAUNCH(build_index, blocks_for(problem.sources, 1), kBuildThreads, 0, stream, problem, memory);
    check_launch("build_index");
    const auto kernel = walk_hypotheses<Request>;
    SB_LAUNCH(kernel, blocks_for(hypotheses, kWalkThreads / kWarpSize), kWalkThreads, 0, stream, problem, request, memory);
    check_launch("walk_hypotheses");
}

}  // namespace

std::int64_t bleu_workspace(const BleuProblem& problem) {
    const NgramIndexLayout layout(problem);
    return problem.sources * (layout.bytes() + problem.samples * layout.node_count * 4);
}

void bleu_scores(const BleuProblem& problem, const BleuScoreRequest& request, void* workspace, int device, void* stream) {
    launch(problem, request, workspace, device, stream);
}

void bleu_counts(const BleuProblem& problem, const BleuCountRequest& request, void* workspace, int device, void* stream) {
    launch(problem, request, workspace, device, stream);
}

}  // namespace softbellman::cuda
