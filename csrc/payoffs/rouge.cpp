// ROUGE-L on the CPU: a row of ceil(L / 64) words for each reference, advanced by one token after the other.
#include "payoffs/rouge.h"

#include <algorithm>

#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

using Word = std::uint64_t;
constexpr std::int32_t kWordBits = 64;

std::int64_t words_of(const TokenBatch& batch) {
    return (batch.reference_length() + kWordBits - 1) / kWordBits;
}

struct LcsScratch {
    Word* rows;             // [R, words]
    std::int32_t* lengths;  // [R]

    static std::int64_t bytes(const TokenBatch& batch) {
        return (8 * batch.reference_count() * words_of(batch) + 4 * std::int64_t(batch.reference_count()) + 63) / 64 * 64;
    }
    LcsScratch(const TokenBatch& batch, void* workspace, int worker) {
        rows = reinterpret_cast<Word*>(static_cast<char*>(workspace) + worker * bytes(batch));
        lengths = reinterpret_cast<std::int32_t*>(rows + batch.reference_count() * words_of(batch));
    }
};

Word equal_tokens(const std::int64_t* tokens, std::int32_t count, std::int64_t token) {
    Word equal = 0;
    for (std::int32_t i = 0; i < count; ++i) equal |= static_cast<Word>(tokens[i] == token) << i;
    return equal;
}

std::int32_t count_zeros(Word row, std::int32_t bits) {
    const Word zeros = bits == kWordBits ? ~row : ~row & ((Word(1) << bits) - 1);
    return static_cast<std::int32_t>(__builtin_popcountll(zeros));
}

// Advances the row of one reference by a token and returns the length of the common subsequence.
std::int32_t advance(Word* row, const std::int64_t* reference, std::int32_t length, std::int64_t token, bool unmatched) {
    Word carry = 0;
    std::int32_t common = 0;
    for (std::int32_t start = 0; start < length; start += kWordBits, ++row) {
        const std::int32_t bits = std::min(kWordBits, length - start);
        if (!unmatched) *row = lcs_step(*row, equal_tokens(reference + start, bits, token), carry);
        common += count_zeros(*row, bits);
    }
    return common;
}

template <class Out>
void score_hypothesis(const RougeScores& scores, const LcsScratch& scratch, std::int64_t b, std::int64_t k) {
    const std::int64_t* tokens = scores.hypotheses.row(b, k);
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k);
    const std::int64_t words = words_of(scores);
    std::fill(scratch.rows, scratch.rows + scores.reference_count() * words, ~Word(0));
    const auto payoff_at = [&](std::int32_t t, bool) {
        const bool unmatched = scores.is_unmatched(tokens[t]);
        RougeBest best;
        for (std::int32_t r = 0; r < scores.reference_count(); ++r) {
            const std::int32_t end = scratch.lengths[r];
            best.take(advance(scratch.rows + r * words, scores.references.row(b, r), end, tokens[t], unmatched), end);
        }
        return best.score(t + 1, scores.beta);
    };
    write_payoffs<Out>(scores, scores, b * scores.samples() + k, length, payoff_scale(scores, scores, scratch.lengths),
                       payoff_at);
}

}  // namespace

std::int64_t rouge_workspace(const TokenBatch& batch, int threads) {
    return std::max(threads, 1) * LcsScratch::bytes(batch);
}

void rouge_scores(const RougeScores& scores, int threads) {
    scores.workspace.check(rouge_workspace(scores, threads));
    for_each_source_share(scores, threads, comparing_threads(scores),
                          [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
                              const LcsScratch scratch(scores, scores.workspace.memory, worker);
                              reference_lengths(scores, b, scratch.lengths);
                              for (std::int64_t k = first; k < last; ++k) {
                                  if (scores.float64)
                                      score_hypothesis<double>(scores, scratch, b, k);
                                  else
                                      score_hypothesis<float>(scores, scratch, b, k);
                              }
                          });
}

}  // namespace softbellman::cpu
