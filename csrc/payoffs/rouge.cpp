// ROUGE-L on the CPU: a row of ceil(L / 64) words for each reference, advanced by one token after the other.
#include "payoffs/rouge.h"

#include <algorithm>

#include "payoffs/payoff_rows.h"

namespace softbellman::cpu {
namespace {

using Word = std::uint64_t;
constexpr std::int32_t kWordBits = 64;

std::int64_t words_of(const BleuProblem& problem) {
    return (problem.reference_length + kWordBits - 1) / kWordBits;
}

struct LcsScratch {
    Word* rows;             // [R, words]
    std::int32_t* lengths;  // [R]

    static std::int64_t bytes(const BleuProblem& problem) {
        return (8 * problem.reference_count * words_of(problem) + 4 * std::int64_t(problem.reference_count) + 63) / 64 * 64;
    }
    LcsScratch(const BleuProblem& problem, void* workspace, int worker) {
        rows = reinterpret_cast<Word*>(static_cast<char*>(workspace) + worker * bytes(problem));
        lengths = reinterpret_cast<std::int32_t*>(rows + problem.reference_count * words_of(problem));
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
void score_hypothesis(const BleuProblem& problem, const RougeRequest& request, const LcsScratch& scratch, std::int64_t b,
                      std::int64_t k) {
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = payoff_cut(problem, tokens, problem.stated_length(b, k));
    const std::int64_t words = words_of(problem);
    std::fill(scratch.rows, scratch.rows + problem.reference_count * words, ~Word(0));
    const auto payoff_at = [&](std::int32_t t, bool) {
        const bool unmatched = problem.has_unmatched && tokens[t] == problem.unmatched;
        RougeBest best;
        for (std::int32_t r = 0; r < problem.reference_count; ++r)
            best.take(advance(scratch.rows + r * words, problem.source_references(b) + r * problem.reference_stride,
                              scratch.lengths[r], tokens[t], unmatched),
                      scratch.lengths[r]);
        return best.score(t + 1, request.beta);
    };
    write_payoffs<Out>(problem, request, b * problem.samples + k, length, payoff_scale(problem, request, scratch.lengths),
                       payoff_at);
}

}  // namespace

std::int64_t rouge_workspace(const BleuProblem& problem, int threads) {
    return std::max(threads, 1) * LcsScratch::bytes(problem);
}

void rouge_scores(const BleuProblem& problem, const RougeRequest& request, void* workspace, int threads) {
    for_each_source_share(problem, threads, [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
        const LcsScratch scratch(problem, workspace, worker);
        payoff_reference_lengths(problem, b, scratch.lengths);
        for (std::int64_t k = first; k < last; ++k) {
            if (request.float64)
                score_hypothesis<double>(problem, request, scratch, b, k);
            else
                score_hypothesis<float>(problem, request, scratch, b, k);
        }
    });
}

}  // namespace softbellman::cpu
