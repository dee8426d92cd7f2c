// ROUGE-L on the device; the step of a row and the F score are those of csrc/rouge.h.
//
// One launch, a warp for each hypothesis. A row of the common subsequence has 32-bit words; one word and one token of the
// hypothesis at a time, 32 lanes compare 32 tokens of the reference and a ballot is the word of equals; the step of the word
// and its carry are the same in all lanes. Rows are read and written by lane 0 alone, hence need no barrier. Lane i keeps
// the score of the prefix start + i + 1 until 32 of them are written. Workspace: a row for each pair of hypothesis and
// reference, and a length beside it.
#include "payoffs/rouge.h"

#include "core/launch.cuh"
#include "payoffs/payoff_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kRougeThreads = 128, kRougeWarps = kRougeThreads / kWarpSize;

SB_HD std::int64_t words_of(const BleuProblem& problem) {
    return (problem.reference_length + 31) / 32;
}

template <class Out>
__device__ void score_subsequences(const BleuProblem& problem, const RougeRequest& request, std::uint32_t* rows,
                                   std::int32_t* lengths, std::int64_t row, int lane) {
    const std::int64_t b = row / problem.samples, words = words_of(problem);
    const std::int64_t* tokens = problem.hypothesis(b, row % problem.samples);
    const std::int64_t* references = problem.source_references(b);
    const std::int32_t length = payoff_cut(problem, tokens, problem.stated_length(b, row % problem.samples), lane);
    for (std::int32_t r = 0; r < problem.reference_count; ++r) {
        const std::int32_t cut =
            payoff_cut(problem, references + r * problem.reference_stride, problem.stated_reference_length(b, r), lane);
        if (lane == 0) lengths[r] = cut;
    }
    for (std::int64_t i = lane; i < problem.reference_count * words; i += 32) rows[i] = ~0u;
    __syncwarp();
    PayoffWriter<Out, RougeRequest> writer{request, row, problem.length, length, payoff_scale(problem, request, lengths),
                                           lane};
    writer.begin();

    double payoff = 0.0;
    for (std::int32_t t = 0; t < length; ++t) {
        const std::int64_t token = tokens[t];
        const bool unmatched = problem.has_unmatched && token == problem.unmatched;
        RougeBest best;
        for (std::int32_t r = 0; r < problem.reference_count; ++r) {
            const std::int64_t* reference = references + r * problem.reference_stride;
            const std::int32_t end = lengths[r];
            std::uint32_t carry = 0;
            std::int32_t common = 0;
            for (std::int32_t start = 0; start < end; start += 32) {
                std::uint32_t* word = rows + r * words + start / 32;
                const unsigned inside = end - start < 32 ? (1u << (end - start)) - 1 : kFullWarp;
                const bool equal = start + lane < end && reference[start + lane] == token;
                const std::uint32_t before = __shfl_sync(kFullWarp, lane == 0 ? *word : 0u, 0);
                const std::uint32_t equals = __ballot_sync(kFullWarp, equal);
                const std::uint32_t after = unmatched ? before : lcs_step(before, equals, carry);
                if (lane == 0) *word = after;
                common += __popc(~after & inside);
            }
            best.take(common, end);
        }
        if (t % 32 == lane) payoff = best.score(t + 1, request.beta);
        if (t % 32 == 31 || t + 1 == length) writer.chunk(t - t % 32, payoff);
    }
}

__global__ void score_rouge(BleuProblem problem, RougeRequest request, std::uint32_t* memory) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * kRougeWarps;
    const std::int64_t hypotheses = problem.sources * problem.samples;
    const std::int64_t row_words = problem.reference_count * words_of(problem);
    auto* lengths = reinterpret_cast<std::int32_t*>(memory + hypotheses * row_words);
    std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRougeWarps + threadIdx.x / kWarpSize;
    for (; row < hypotheses; row += warps) {
        if (request.float64)
            score_subsequences<double>(problem, request, memory + row * row_words, lengths + row * problem.reference_count,
                                       row, lane);
        else
            score_subsequences<float>(problem, request, memory + row * row_words, lengths + row * problem.reference_count,
                                      row, lane);
    }
}

}  // namespace

std::int64_t rouge_workspace(const BleuProblem& problem) {
    return 4 * problem.sources * problem.samples * problem.reference_count * (words_of(problem) + 1);
}

void rouge_scores(const BleuProblem& problem, const RougeRequest& request, void* workspace, int device, void* stream) {
    const std::int64_t hypotheses = problem.sources * problem.samples;
    if (hypotheses == 0) return;
    DeviceGuard guard(device);
    SB_LAUNCH(score_rouge, blocks_for(hypotheses, kRougeWarps), kRougeThreads, 0, stream, problem, request,
              static_cast<std::uint32_t*>(workspace));
    check_launch("score_rouge");
}

}  // namespace softbellman::cuda
