// ROUGE-L of token sequences: one word of the longest common subsequence, bit-parallel, and the F score, for host and
// device.
//
// Notation of bleu.h, whose BleuProblem describes the batch. Bit j of the row of a prefix and a reference is 0 where
// LCS(prefix, first j+1 tokens) exceeds LCS(prefix, first j), so the zeros count the LCS. A token whose equals in the
// reference are the bits M takes the row from V to (V + (V & M)) | (V & ~M), as one number of L bits: a carry runs from
// word to word (Hyyro 2004). Tokens that are `unmatched` equal nothing.
#pragma once
#include <cstdint>

#include "payoffs/bleu.h"

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
        const double value = static_cast<double>(common) / reference_length;
        if (value > recall) recall = value;
    }
    SB_HD double score(std::int32_t length, double beta) const {
        if (longest == 0) return 0.0;
        const double precision = static_cast<double>(longest) / length, weight = beta * beta;
        return (1.0 + weight) * precision * recall / (recall + weight * precision);
    }
};

struct RougeRequest {
    double beta;
    BleuOutput output;
    bool scale_by_reference_length;  // rewards only
    bool float64;                    // type of `out`, else float32
    void* out;                       // [B, K, T], sentence: [B, K]; every element is written
};

namespace cpu {
std::int64_t rouge_workspace(const BleuProblem& problem, int threads);
void rouge_scores(const BleuProblem& problem, const RougeRequest& request, void* workspace, int threads);
}  // namespace cpu
namespace cuda {
std::int64_t rouge_workspace(const BleuProblem& problem);
void rouge_scores(const BleuProblem& problem, const RougeRequest& request, void* workspace, int device, void* stream);
}  // namespace cuda

}  // namespace softbellman
