// ROUGE-L on the device; the step of a row and the F score are those of rouge.h.
//
// One launch, a warp for each hypothesis. A row of the common subsequence has 32-bit words; one word and one token of the
// hypothesis at a time, 32 lanes compare 32 tokens of the reference and a ballot is the word of equals; the step of the word
// and its carry are the same in all lanes. Rows are read and written by lane 0 alone, hence need no barrier. Lane i keeps
// the score of the prefix start + i + 1 until 32 of them are written. Workspace: a row for each pair of hypothesis and
// reference, and a length beside it.
#include "payoffs/rouge.h"

#include "core/launch.cuh"
#include "payoffs/token_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kRougeThreads = 128, kRougeWarps = kRougeThreads / kWarpSize;

SB_HD std::int64_t words_of(const TokenBatch& batch) {
    return (batch.reference_length() + 31) / 32;
}

template <class Out>
__device__ void score_subsequences(const RougeScores& scores, std::uint32_t* rows, std::int32_t* lengths, std::int64_t row,
                                   int lane) {
    const std::int64_t b = row / scores.samples(), k = row % scores.samples(), words = words_of(scores);
    const std::int64_t* tokens = scores.hypotheses.row(b, k);
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k, lane);
    for (std::int32_t r = 0; r < scores.reference_count(); ++r) {
        const std::int32_t cut = cut_length(scores, scores.references, b, r, lane);
        if (lane == 0) lengths[r] = cut;
    }
    for (std::int64_t i = lane; i < scores.reference_count() * words; i += 32) rows[i] = ~0u;
    __syncwarp();
    PayoffWriter<Out> writer{scores, row, scores.length(), length, payoff_scale(scores, scores, lengths), lane};
    writer.begin();

    double payoff = 0.0;
    for (std::int32_t t = 0; t < length; ++t) {
        const std::int64_t token = tokens[t];
        const bool unmatched = scores.is_unmatched(token);
        RougeBest best;
        for (std::int32_t r = 0; r < scores.reference_count(); ++r) {
            const std::int64_t* reference = scores.references.row(b, r);
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
        if (t % 32 == lane) payoff = best.score(t + 1, scores.beta);
        if (t % 32 == 31 || t + 1 == length) writer.chunk(t - t % 32, payoff);
    }
}

__global__ void score_rouge(RougeScores scores) {
    const std::int64_t row_words = scores.reference_count() * words_of(scores);
    auto* memory = static_cast<std::uint32_t*>(scores.workspace.memory);
    auto* all_lengths = reinterpret_cast<std::int32_t*>(memory + scores.hypotheses.count() * row_words);
    for_each_hypothesis(scores, [&](std::int64_t row, int lane) {
        std::int32_t* lengths = all_lengths + row * scores.reference_count();
        if (scores.float64)
            score_subsequences<double>(scores, memory + row * row_words, lengths, row, lane);
        else
            score_subsequences<float>(scores, memory + row * row_words, lengths, row, lane);
    });
}

}  // namespace

std::int64_t rouge_workspace(const TokenBatch& batch) {
    return 4 * batch.hypotheses.count() * batch.reference_count() * (words_of(batch) + 1);
}

void rouge_scores(const RougeScores& scores, const Launch& launch) {
    if (scores.hypotheses.count() == 0) return;
    scores.workspace.check(rouge_workspace(scores));
    DeviceGuard guard(launch.device);
    SB_LAUNCH(score_rouge, blocks_for(scores.hypotheses.count(), kRougeWarps), kRougeThreads, 0, launch.stream, scores);
    check_launch("score_rouge");
}

}  // namespace softbellman::cuda
