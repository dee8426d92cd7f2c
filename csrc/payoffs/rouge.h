// ROUGE-L of token sequences: one word of the longest common subsequence, bit-parallel, and the F score, for host and
// device.
//
// Notation of token_batch.h. Bit j of the row of a prefix and a reference is 0 where
// LCS(prefix, first j+1 tokens) exceeds LCS(prefix, first j), so the zeros count the LCS. A token whose equals in the
// reference are the bits M takes the row from V to (V + (V & M)) | (V & ~M), as one number of L bits: a carry runs from
// word to word (Hyyro 2004). Tokens that are `unmatched` equal nothing. The score is made of integers and of steps rounded
// once each (core/exact_double.h): the same bits on every processor.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "payoffs/token_batch.h"

namespace softbellman {

// One word of the step above; `carry` is 0 or 1. Word: unsigned, of any width.
template <class Word>
SB_INLINE Word lcs_step(Word row, Word equal, Word& carry) {
    const Word advancing = row & equal;
    const Word partial = row + advancing;
    const Word sum = partial + carry;
    carry = (partial < row) | (sum < partial);
    return sum | (row & ~equal);
}

// The F score of the COCO caption tools: the best precision and the best recall, each over all references.
struct RougeBest {
    std::int32_t longest = 0;  // common subsequence
    double recall = 0.0;

    SB_HD void take(std::int32_t common, std::int32_t reference_length) {
        if (reference_length == 0) return;
        if (common > longest) longest = common;
        const double value = exact_divide(common, reference_length);
        if (value > recall) recall = value;
    }
    SB_HD double score(std::int32_t length, double beta) const {
        if (longest == 0) return 0.0;
        const double precision = exact_divide(longest, length), weight = exact_multiply(beta, beta);
        const double product = exact_multiply(exact_multiply(exact_add(1.0, weight), precision), recall);
        return exact_divide(product, exact_add(recall, exact_multiply(weight, precision)));
    }
};

struct RougeScores : TokenBatch, PayoffResult {
    double beta = 1.2;

    template <class Fields>
    void describe(Fields& fields) {
        TokenBatch::describe(fields);
        fields.positive("beta", beta);
        PayoffResult::describe(fields, *this);
    }
};

namespace cpu {
std::int64_t rouge_workspace(const TokenBatch& batch, int threads);
void rouge_scores(const RougeScores& scores, int threads);
}  // namespace cpu
namespace cuda {
std::int64_t rouge_workspace(const TokenBatch& batch);
void rouge_scores(const RougeScores& scores, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
