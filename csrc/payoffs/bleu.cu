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

#include "core/launch.cuh"
#include "payoffs/ngram_index.h"
#include "payoffs/token_rows.cuh"

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

__global__ void build_index(NgramBatch batch, char* workspace) {
    const NgramIndexLayout layout(batch);
    const BlockLanes block{static_cast<std::int32_t>(threadIdx.x), static_cast<std::int32_t>(blockDim.x)};
    for (std::int64_t b = blockIdx.x; b < batch.sources(); b += gridDim.x) {
        const NgramIndex index = layout.place(workspace + b * layout.bytes(), batch.references.row(b, 0));
        build_ngram_index(index, batch, b, block);
    }
}

// Calls at_prefix(active, t + 1, matches) in all lanes of each chunk; `active` where t is a position of the hypothesis.
template <class AtPrefix>
__device__ void walk(const NgramIndex& index, std::int32_t* counters, const NgramBatch& batch, const std::int64_t* tokens,
                     std::int32_t length, int lane, const AtPrefix& at_prefix) {
    const int max_order = batch.max_order;
    for (std::int32_t i = lane; i < index.node_count; i += 32) counters[i] = 0;
    __syncwarp();
    std::int64_t carried[kLargestOrder];  // matches of the chunks before
    std::int32_t left[kLargestOrder];     // nodes of the position before this chunk
    for (int n = 0; n < kLargestOrder; ++n) carried[n] = 0, left[n] = kNoNode;
    const unsigned up_to_here = kFullWarp >> (31 - lane);

    for (std::int32_t start = 0; start < length; start += 32) {
        const std::int32_t t = start + lane;
        std::int32_t token_node = kNoNode;
        if (t < length && !batch.is_unmatched(tokens[t])) token_node = index.find_token(tokens[t]);
        std::int64_t matches[kLargestOrder];
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
__device__ void score(const NgramIndex& index, std::int32_t* counters, const BleuScores& scores, std::int64_t row,
                      int lane) {
    const std::int64_t b = row / scores.samples(), k = row % scores.samples();
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k, lane);
    PayoffWriter<Out> writer{scores, row, scores.length(), length, payoff_scale(scores, scores, index.lengths), lane};
    writer.begin();
    walk(index, counters, scores, scores.hypotheses.row(b, k), length, lane,
         [&](bool, std::int32_t prefix, const std::int64_t* matches) {
             double payoff = 0.0;
             if (writer.wants(prefix - 1)) {
                 const std::int32_t closest = bleu_closest_length(index.lengths, scores.reference_count(), prefix);
                 const double brevity = bleu_brevity_penalty(prefix, closest);
                 payoff = bleu_prefix_score(matches, prefix, scores.max_order, brevity, scores);
             }
             writer.chunk(prefix - 1 - lane, payoff);
         });
}

__device__ void count(const NgramIndex& index, std::int32_t* counters, const BleuCounts& counts, std::int64_t row,
                      int lane) {
    const std::int64_t b = row / counts.samples(), k = row % counts.samples(), width = 2 * counts.max_order + 2;
    const std::int32_t length = cut_length(counts, counts.hypotheses, b, k, lane);
    const auto write = [&](std::int64_t* out, std::int32_t prefix, const std::int64_t* matches) {
        const std::int32_t closest = bleu_closest_length(index.lengths, counts.reference_count(), prefix);
        bleu_write_counts(out, matches, prefix, counts.max_order, closest);
    };
    std::int64_t* out = counts.out + row * width * (counts.every_prefix ? counts.length() : 1);
    if (counts.every_prefix) {
        for (std::int64_t i = length * width + lane; i < counts.length() * width; i += 32) out[i] = 0;
    } else if (length == 0 && lane == 0) {
        const std::int64_t none[kLargestOrder] = {};
        write(out, 0, none);
    }
    walk(index, counters, counts, counts.hypotheses.row(b, k), length, lane,
         [&](bool active, std::int32_t prefix, const std::int64_t* matches) {
             if (!active) return;
             if (counts.every_prefix)
                 write(out + (prefix - 1) * width, prefix, matches);
             else if (prefix == length)
                 write(out, prefix, matches);
         });
}

__device__ void write_results(const NgramIndex& index, std::int32_t* counters, const BleuScores& scores, std::int64_t row,
                              int lane) {
    if (scores.float64)
        score<double>(index, counters, scores, row, lane);
    else
        score<float>(index, counters, scores, row, lane);
}
__device__ void write_results(const NgramIndex& index, std::int32_t* counters, const BleuCounts& counts, std::int64_t row,
                              int lane) {
    count(index, counters, counts, row, lane);
}

// Request: BleuScores or BleuCounts, what to write about each hypothesis.
template <class Request>
__global__ void walk_hypotheses(Request request) {
    const NgramIndexLayout layout(request);
    char* workspace = static_cast<char*>(request.workspace.memory);
    auto* all_counters = reinterpret_cast<std::int32_t*>(workspace + request.sources() * layout.bytes());
    for_each_hypothesis(request, [&](std::int64_t row, int lane) {
        const std::int64_t b = row / request.samples();
        const NgramIndex index = layout.place(workspace + b * layout.bytes(), request.references.row(b, 0));
        write_results(index, all_counters + row * layout.node_count, request, row, lane);
    });
}

template <class Request>
void walk_batch(const Request& request, const Launch& launch) {
    if (request.hypotheses.count() == 0) return;
    request.workspace.check(bleu_workspace(request));
    DeviceGuard guard(launch.device);
    const NgramBatch& batch = request;
    SB_LAUNCH(build_index, blocks_for(batch.sources(), 1), kBuildThreads, 0, launch.stream, batch,
              static_cast<char*>(request.workspace.memory));
    check_launch("build_index");
    const auto kernel = walk_hypotheses<Request>;
    const unsigned blocks = blocks_for(batch.hypotheses.count(), kWalkThreads / kWarpSize);
    SB_LAUNCH(kernel, blocks, kWalkThreads, 0, launch.stream, request);
    check_launch("walk_hypotheses");
}

}  // namespace

std::int64_t bleu_workspace(const NgramBatch& batch) {
    const NgramIndexLayout layout(batch);
    return batch.sources() * (layout.bytes() + batch.samples() * layout.node_count * 4);
}

void bleu_scores(const BleuScores& scores, const Launch& launch) {
    walk_batch(scores, launch);
}

void bleu_counts(const BleuCounts& counts, const Launch& launch) {
    walk_batch(counts, launch);
}

}  // namespace softbellman::cuda
