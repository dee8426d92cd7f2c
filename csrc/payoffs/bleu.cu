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
#include "payoffs/bleu_walk.cuh"
#include "payoffs/token_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kBuildThreads = 128, kWalkThreads = 128;

__global__ void build_index(NgramBatch batch, char* workspace) {
    const NgramIndexLayout layout(batch);
    const BlockLanes block{static_cast<std::int32_t>(threadIdx.x), static_cast<std::int32_t>(blockDim.x)};
    for (std::int64_t b = blockIdx.x; b < batch.sources(); b += gridDim.x) {
        const NgramIndex index = layout.place(workspace + b * layout.bytes(), batch.references.row(b, 0));
        build_ngram_index(index, batch, b, block);
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
                 const double brevity = bleu_brevity_penalty(prefix, closest, scores);
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
