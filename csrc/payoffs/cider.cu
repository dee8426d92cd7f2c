// CIDEr-D on the device; formulas and conventions are those of cider.h.
//
// Two launches. measure_references: a warp for each reference, its length and the norms of its orders. score_captions: a
// warp for each hypothesis takes 32 positions at a time, one lane each:
//   1. the nodes of the n-grams that end at the lane's position in the table of documents, order by order, each from the
//      neighbour's shorter one; hence their weights;
//   2. how often each came before in the hypothesis and how often each reference holds it, by comparing tokens: all lanes
//      read the same token of the reference at a time;
//   3. the norms and products of its prefix, by sums over the lanes before it; the score of its prefix.
// Tokens of the hypothesis are read T / 32 times by each lane, those of the references as often, from the first-level cache;
// scores are written once. Sums run over the lanes in one fixed order, so results do not depend on the batch. Workspace: N
// doubles and a length for each reference, N doubles for each pair of hypothesis and reference.
#include "payoffs/cider.h"

#include "core/launch.cuh"
#include "payoffs/token_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kCiderThreads = 128, kCiderWarps = kCiderThreads / kWarpSize;

// The workspace: inverse norms [B, R, N], products [B, K, R, N], reference lengths [B, R].
struct CiderWorkspace {
    double *inverse_norms, *products;
    std::int32_t* lengths;

    SB_HD static std::int64_t references(const NgramBatch& batch) { return batch.sources() * batch.reference_count(); }
    SB_HD CiderWorkspace(const NgramBatch& batch, void* memory) {
        inverse_norms = static_cast<double*>(memory);
        products = inverse_norms + references(batch) * batch.max_order;
        lengths = reinterpret_cast<std::int32_t*>(products + references(batch) * batch.samples() * batch.max_order);
    }
};

__device__ double sum_up_to_here(double value, int lane) {
    for (int distance = 1; distance < 32; distance *= 2) {
        const double other = __shfl_up_sync(kFullWarp, value, distance);
        if (lane >= distance) value += other;
    }
    return value;
}

// What 32 tokens of a sequence add, each lane its own: squared weights, earlier equals, and the norms of its prefix.
// kOrders: the orders there is room for, in registers; problem.max_order at most.
template <int kOrders>
struct CaptionChunk {
    double squared[kOrders], squared_norm[kOrders], carried[kOrders];
    std::int32_t before[kOrders], left[kOrders];
    int matching;

    __device__ CaptionChunk() {
        for (int n = 0; n < kOrders; ++n) carried[n] = 0.0, left[n] = kNoNode;
    }
    __device__ void load(const CiderScores& scores, const std::int64_t* tokens, std::int32_t start, std::int32_t length,
                         int lane) {
        const std::int32_t t = start + lane;
        matching = t < length ? cider_matching_orders(scores, tokens, t) : 0;
        count_equal_ngrams(tokens, t, tokens, t, matching, before);
        const std::int32_t token = matching > 0 ? scores.find_token(tokens[t]) : kNoNode;
        std::int32_t node = token;
#pragma unroll
        for (int n = 0; n < kOrders; ++n) {
            if (n >= scores.max_order) break;
            if (n > 0) {
                std::int32_t parent = __shfl_up_sync(kFullWarp, node, 1);
                const std::int32_t last = __shfl_sync(kFullWarp, node, 31);
                if (lane == 0) parent = left[n - 1];
                left[n - 1] = last;
                node = scores.find_child(parent, token);
            }
            squared[n] = t < length && n <= t ? scores.squared_weight(node) : 0.0;
            squared_norm[n] = carried[n] + sum_up_to_here(squared[n] * (2 * before[n] + 1), lane);
            carried[n] = __shfl_sync(kFullWarp, squared_norm[n], 31);
        }
    }
};

template <int kOrders>
__global__ void measure_references(CiderScores scores) {
    const CiderWorkspace workspace(scores, scores.workspace.memory);
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * kCiderWarps;
    std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kCiderWarps + threadIdx.x / kWarpSize;
    for (; row < CiderWorkspace::references(scores); row += warps) {
        const std::int64_t b = row / scores.reference_count();
        const auto r = static_cast<std::int32_t>(row % scores.reference_count());
        const std::int64_t* tokens = scores.references.row(b, r);
        const std::int32_t length = cut_length(scores, scores.references, b, r, lane);
        CaptionChunk<kOrders> chunk;
        for (std::int32_t start = 0; start < length; start += 32) chunk.load(scores, tokens, start, length, lane);
        if (lane != 0) continue;
        workspace.lengths[row] = length;
#pragma unroll
        for (int n = 0; n < kOrders; ++n)
            if (n < scores.max_order)
                workspace.inverse_norms[row * scores.max_order + n] = cider_inverse_norm(chunk.carried[n]);
    }
}

template <int kOrders, class Out>
__device__ void score_caption(const CiderScores& scores, const CiderWorkspace& workspace, std::int64_t row, int lane) {
    const int orders = scores.max_order;
    const std::int64_t b = row / scores.samples(), k = row % scores.samples();
    const std::int64_t* tokens = scores.hypotheses.row(b, k);
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k, lane);
    const std::int32_t* lengths = workspace.lengths + b * scores.reference_count();
    const double* inverse_norms = workspace.inverse_norms + b * scores.reference_count() * orders;
    double* products = workspace.products + row * scores.reference_count() * orders;
    for (std::int32_t i = lane; i < scores.reference_count() * orders; i += 32) products[i] = 0.0;
    __syncwarp();
    const double factor = cider_mean_factor(lengths, scores.reference_count(), orders);
    PayoffWriter<Out> writer{scores, row, scores.length(), length, payoff_scale(scores, scores, lengths), lane};
    writer.begin();

    CaptionChunk<kOrders> chunk;
    for (std::int32_t start = 0; start < length; start += 32) {
        chunk.load(scores, tokens, start, length, lane);
        const std::int32_t t = start + lane;
        double inverse_norm[kOrders], sum = 0.0;
        for (int n = 0; n < kOrders; ++n) inverse_norm[n] = n < orders ? cider_inverse_norm(chunk.squared_norm[n]) : 0.0;
        for (std::int32_t r = 0; r < scores.reference_count(); ++r) {
            std::int32_t counts[kOrders];
            count_equal_ngrams(scores.references.row(b, r), lengths[r], tokens, t, chunk.matching, counts);
            double cosines = 0.0;
#pragma unroll
            for (int n = 0; n < kOrders; ++n) {
                if (n >= orders) break;
                const double added = counts[n] > chunk.before[n] ? chunk.squared[n] * counts[n] : 0.0;
                const double product = products[r * orders + n] + sum_up_to_here(added, lane);
                const double last = __shfl_sync(kFullWarp, product, 31);
                __syncwarp();  // every lane has read the sum so far
                if (lane == 0) products[r * orders + n] = last;
                cosines += product * inverse_norms[r * orders + n] * inverse_norm[n];
            }
            if (t < length && cosines != 0.0)
                sum += cosines * cider_length_penalty(cider_length_gap(t + 1, lengths[r]), scores.sigma);
        }
        __syncwarp();  // the products are written before the next chunk reads them
        writer.chunk(start, t < length ? factor * sum : 0.0);
    }
}

template <int kOrders>
__global__ void score_captions(CiderScores scores) {
    const CiderWorkspace workspace(scores, scores.workspace.memory);
    for_each_hypothesis(scores, [&](std::int64_t row, int lane) {
        if (scores.float64)
            score_caption<kOrders, double>(scores, workspace, row, lane);
        else
            score_caption<kOrders, float>(scores, workspace, row, lane);
    });
}

template <int kOrders>
void walk_batch(const CiderScores& scores, void* stream) {
    const auto measure = measure_references<kOrders>;
    SB_LAUNCH(measure, blocks_for(CiderWorkspace::references(scores), kCiderWarps), kCiderThreads, 0, stream, scores);
    check_launch("measure_references");
    const auto score = score_captions<kOrders>;
    SB_LAUNCH(score, blocks_for(scores.hypotheses.count(), kCiderWarps), kCiderThreads, 0, stream, scores);
    check_launch("score_captions");
}

}  // namespace

std::int64_t cider_workspace(const NgramBatch& batch) {
    return CiderWorkspace::references(batch) * (8 * batch.max_order * (1 + batch.samples()) + 4);
}

void cider_scores(const CiderScores& scores, const Launch& launch) {
    if (scores.hypotheses.count() == 0) return;
    scores.workspace.check(cider_workspace(scores));
    DeviceGuard guard(launch.device);
    if (scores.max_order <= 4)
        walk_batch<4>(scores, launch.stream);
    else
        walk_batch<kLargestOrder>(scores, launch.stream);
}

}  // namespace softbellman::cuda
