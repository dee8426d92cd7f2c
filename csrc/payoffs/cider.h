// CIDEr-D of token sequences: the document frequencies as a table, the n-grams that a token adds, and the score of a
// prefix, for host and device. cider.cpp and cider.cu walk the sequences with it.
//
// Notation of token_batch.h; N = max_order. An n-gram g weighs w(g) = log D - log max(1,
// df(g)) with D documents. When the c+1st occurrence of g ends at t,
//     |h|_n^2 grows by w^2 (2c + 1),    h . r in order n by w^2 tf_r where tf_r > c    (counts clipped at those of r),
// so a prefix costs O(R N) operations beyond counting. Counting compares tokens, O(t + R L) for a token: no table is built
// for captions, whose rows fit a few cache lines.
//
// An n-gram that holds `unmatched` weighs log D, matches nothing and is equal to no other: unknown words differ.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/device.h"
#include "payoffs/ngram_index.h"
#include "payoffs/token_batch.h"

namespace softbellman {

// What a node of the table below holds; key and weight side by side, so that a look-up touches one cache line.
struct DocumentSlot {
    unsigned long long key;  // a token, or NgramIndex::pair_key
    double weight;           // below 0 where the slot is free
};

// The n-grams of a corpus, a tree in two open-addressing tables as in ngram_index.h.
struct DocumentTable {
    const DocumentSlot *token_slots = nullptr, *ngram_slots = nullptr;  // [2^token_bits] and [2^ngram_bits]
    int token_bits = 1, ngram_bits = 1;
    double unseen = 0.0;  // log D

    template <class Fields>
    void describe(Fields& fields) {
        describe_slots(fields, "token_slots", token_slots, token_bits);
        describe_slots(fields, "ngram_slots", ngram_slots, ngram_bits);
        fields.not_negative("unseen", unseen);
    }
    // A slot is two elements: the key, and the bits of the weight.
    template <class Fields>
    static void describe_slots(Fields& fields, const char* name, const DocumentSlot*& slots, int& bits) {
        const std::int64_t* words = nullptr;
        std::int64_t count = 0;
        fields.counted_array(name, words, count);
        slots = reinterpret_cast<const DocumentSlot*>(words);
        while (bits < 30 && std::int64_t(2) << bits < count) ++bits;
        fields.rule(std::int64_t(2) << bits == count, "the slots of document frequencies must be a power of two");
    }

    SB_HD std::int32_t token_mask() const { return (std::int32_t(1) << token_bits) - 1; }
    SB_HD std::int32_t ngram_mask() const { return (std::int32_t(1) << ngram_bits) - 1; }

    SB_HD std::int32_t find_token(std::int64_t token) const {
        return find(token_slots, token_bits, static_cast<unsigned long long>(token));
    }
    SB_HD std::int32_t find_child(std::int32_t parent, std::int32_t token) const {
        if (parent == kNoNode || token == kNoNode) return kNoNode;
        const std::int32_t slot = find(ngram_slots, ngram_bits, NgramIndex::pair_key(parent, token));
        return slot == kNoNode ? kNoNode : token_mask() + 1 + slot;
    }
    SB_HD static std::int32_t find(const DocumentSlot* slots, int bits, unsigned long long key) {
        const std::uint32_t mask = (std::uint32_t(1) << bits) - 1, first = NgramIndex::hash(key, 64 - bits);
        std::uint32_t slot = first;
        do {
            const DocumentSlot held = slots[slot];
            if (held.weight < 0.0) return kNoNode;
            if (held.key == key) return static_cast<std::int32_t>(slot);
            slot = (slot + 1) & mask;
        } while (slot != first);  // a table from elsewhere may have no free slot
        return kNoNode;
    }
    SB_HD double squared_weight(std::int32_t node) const {
        const double weight = node == kNoNode        ? unseen
                              : node <= token_mask() ? token_slots[node].weight
                                                     : ngram_slots[node - token_mask() - 1].weight;
        return weight * weight;
    }
};

// How many of the tokens that end at t, `orders` at most, no `unmatched` token interrupts: longer n-grams match nothing.
SB_HD inline int cider_matching_orders(const NgramBatch& batch, const std::int64_t* tokens, std::int32_t t) {
    int orders = 0;
    while (orders < batch.max_order && orders <= t && !batch.is_unmatched(tokens[t - orders])) ++orders;
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

struct CiderScores : NgramBatch, DocumentTable, PayoffResult {
    double sigma = 6.0;

    template <class Fields>
    void describe(Fields& fields) {
        NgramBatch::describe(fields);
        DocumentTable::describe(fields);
        fields.positive("sigma", sigma);
        PayoffResult::describe(fields, *this);
    }
};

namespace cpu {
std::int64_t cider_workspace(const NgramBatch& batch, int threads);
void cider_scores(const CiderScores& scores, int threads);
}  // namespace cpu
namespace cuda {
std::int64_t cider_workspace(const NgramBatch& batch);
void cider_scores(const CiderScores& scores, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
