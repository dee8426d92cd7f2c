// CIDEr-D of token sequences: the document frequencies as a table, the n-grams that a token adds, and the score of a
// prefix, for host and device. csrc/cpu/cider.cpp and csrc/cuda/cider.cu walk the sequences with it.
//
// Notation of bleu.h, whose BleuProblem describes the batch; N = max_order. An n-gram g weighs w(g) = log D - log max(1,
// df(g)) with D documents. When the c+1st occurrence of g ends at t,
//     |h|_n^2 grows by w^2 (2c + 1),    h . r in order n by w^2 tf_r where tf_r > c    (counts clipped at those of r),
// so a prefix costs O(R N) operations beyond counting. Counting compares tokens, O(t + R L) for a token: no table is built
// for captions, whose rows fit a few cache lines.
//
// An n-gram that holds `unmatched` weighs log D, matches nothing and is equal to no other: unknown words differ.
#pragma once
#include <cmath>
#include <cstdint>

#include "payoffs/bleu.h"
#include "payoffs/ngram_index.h"

namespace softbellman {

// What a node of the table below holds; key and weight side by side, so that a look-up touches one cache line.
struct DocumentSlot {
    unsigned long long key;  // a token, or NgramIndex::pair_key
    double weight;           // below 0 where the slot is free
};

// The n-grams of a corpus, a tree in two open-addressing tables as in ngram_index.h.
struct DocumentTable {
    const DocumentSlot *tokens, *ngrams;  // [token_mask + 1] and [ngram_mask + 1]
    std::int32_t token_mask, ngram_mask;
    int token_shift, ngram_shift;
    double unseen;  // log D

    SB_HD std::int32_t find_token(std::int64_t token) const {
        return find(tokens, token_mask, token_shift, static_cast<unsigned long long>(token));
    }
    SB_HD std::int32_t find_child(std::int32_t parent, std::int32_t token) const {
        if (parent == kNoNode || token == kNoNode) return kNoNode;
        const std::int32_t slot = find(ngrams, ngram_mask, ngram_shift, NgramIndex::pair_key(parent, token));
        return slot == kNoNode ? kNoNode : token_mask + 1 + slot;
    }
    SB_HD static std::int32_t find(const DocumentSlot* slots, std::int32_t mask, int shift, unsigned long long key) {
        for (std::uint32_t slot = NgramIndex::hash(key, shift);; slot = (slot + 1) & mask) {
            const DocumentSlot held = slots[slot];
            if (held.weight < 0.0) return kNoNode;
            if (held.key == key) return static_cast<std::int32_t>(slot);
        }
    }
    SB_HD double squared_weight(std::int32_t node) const {
        const double weight = node == kNoNode      ? unseen
                              : node <= token_mask ? tokens[node].weight
                                                   : ngrams[node - token_mask - 1].weight;
        return weight * weight;
    }
};

// How many of the tokens that end at t, `orders` at most, no `unmatched` token interrupts: longer n-grams match nothing.
SB_HD inline int cider_matching_orders(const BleuProblem& problem, const std::int64_t* tokens, std::int32_t t) {
    int orders = 0;
    while (orders < problem.max_order && orders <= t && !(problem.has_unmatched && tokens[t - orders] == problem.unmatched))
        ++orders;
    return orders;
}

// counts[n]: the (n+1)-grams within the first `end` tokens of `sequence` that equal the one that ends at tokens[t].
template <int kOrders>
SB_HD inline void count_equal_ngrams(const std::int64_t* sequence, std::int32_t end, const std::int64_t* tokens,
                                     std::int32_t t, int orders, std::int32_t (&counts)[kOrders]) {
    for (int n = 0; n < kOrders; ++n) counts[n] = 0;
    if (orders == 0) return;
    const std::int64_t token = tokens[t];
    for (std::int32_t i = 0; i < end; ++i) {
        if (sequence[i] != token) continue;
        int equal = 1;
        while (equal < orders && equal <= i && sequence[i - equal] == tokens[t - equal]) ++equal;
        for (int n = 0; n < kOrders; ++n) counts[n] += n < equal;
    }
}

// The length penalty of the published scorer, which counts bigrams: lengths of 0 and 1 token are the same to it.
SB_HD inline std::int32_t cider_length_gap(std::int32_t length, std::int32_t reference_length) {
    const std::int32_t gap = (length > 0 ? length - 1 : 0) - (reference_length > 0 ? reference_length - 1 : 0);
    return gap < 0 ? -gap : gap;
}
SB_HD inline double cider_length_penalty(std::int32_t gap, double sigma) {
    return exp(-static_cast<double>(gap) * gap / (2.0 * sigma * sigma));
}

SB_HD inline double cider_inverse_norm(double squared) {
    return squared > 0.0 ? 1.0 / sqrt(squared) : 0.0;
}

// What the sum over references and orders is multiplied by.
SB_HD inline double cider_mean_factor(const std::int32_t* lengths, std::int32_t references, int max_order) {
    std::int32_t present = 0;
    for (std::int32_t r = 0; r < references; ++r) present += lengths[r] != 0;
    return present == 0 ? 0.0 : 10.0 / (static_cast<double>(max_order) * present);
}

struct CiderRequest {
    double sigma;
    BleuOutput output;
    bool scale_by_reference_length;  // rewards only
    bool float64;                    // type of `out`, else float32
    void* out;                       // [B, K, T], sentence: [B, K]; every element is written
};

namespace cpu {
std::int64_t cider_workspace(const BleuProblem& problem, int threads);
void cider_scores(const BleuProblem& problem, const DocumentTable& table, const CiderRequest& request, void* workspace,
                  int threads);
}  // namespace cpu
namespace cuda {
std::int64_t cider_workspace(const BleuProblem& problem);
void cider_scores(const BleuProblem& problem, const DocumentTable& table, const CiderRequest& request, void* workspace,
                  int device, void* stream);
}  // namespace cuda

}  // namespace softbellman
