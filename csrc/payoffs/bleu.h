// BLEU of token sequences: the description of a batch and the score of one set of counts, for host and device.
// Counting lives in ngram_index.h; csrc/cpu/bleu.cpp and csrc/cuda/bleu.cu walk the hypotheses with it.
//
// Notation: B sources, K hypotheses per source, R references per source, T and L their padded lengths. A sequence is its
// first `length` tokens, cut before the first `eos`; a reference of length 0 is absent. An n-gram that holds `unmatched`
// counts in the totals and never matches.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/portability.h"

namespace softbellman {

constexpr int kBleuMaxOrder = 8;

enum class BleuSmoothing : int { none = 0, floor = 1, add_k = 2, exponential = 3, add_one_all = 4 };
enum class BleuOutput : int { prefix = 0, sentence = 1, reward = 2 };

struct BleuProblem {
    const std::int64_t* hypotheses;  // [B, K, T], unit token stride
    std::int64_t hypothesis_source_stride, hypothesis_stride;
    const std::int64_t* hypothesis_lengths;  // [B, K] dense, or null: all T
    const std::int64_t* references;          // [B, R, L], unit token stride
    std::int64_t reference_source_stride, reference_stride;
    const std::int64_t* reference_lengths;  // [B, R] dense, or null: all L
    std::int64_t sources, samples;
    std::int32_t length, reference_count, reference_length;  // T, R, L
    std::int32_t max_order;
    bool has_eos, has_unmatched;
    std::int64_t eos, unmatched;

    SB_HD const std::int64_t* hypothesis(std::int64_t b, std::int64_t k) const {
        return hypotheses + b * hypothesis_source_stride + k * hypothesis_stride;
    }
    SB_HD const std::int64_t* source_references(std::int64_t b) const { return references + b * reference_source_stride; }

    // Lengths as stated, before the cut at eos; clamped, so that a wrong length never reads outside its row.
    SB_HD std::int32_t stated_length(std::int64_t b, std::int64_t k) const {
        return hypothesis_lengths ? clamp(hypothesis_lengths[b * samples + k], length) : length;
    }
    SB_HD std::int32_t stated_reference_length(std::int64_t b, std::int32_t r) const {
        return reference_lengths ? clamp(reference_lengths[b * reference_count + r], reference_length) : reference_length;
    }
    SB_HD static std::int32_t clamp(std::int64_t stated, std::int32_t limit) {
        return stated < 0 ? 0 : stated > limit ? limit : static_cast<std::int32_t>(stated);
    }
};

struct BleuScoring {
    BleuSmoothing smoothing;
    double value;  // of floor, add-k and add-one-all
    bool effective_order;
};

// The reference length closest to a hypothesis of `length` tokens, the shorter one on a tie; 0 when all are absent.
SB_HD inline std::int32_t bleu_closest_length(const std::int32_t* lengths, std::int32_t count, std::int32_t length) {
    std::int32_t closest = 0, distance = 0;
    for (std::int32_t r = 0; r < count; ++r) {
        const std::int32_t candidate = lengths[r];
        if (candidate == 0) continue;
        const std::int32_t gap = candidate > length ? candidate - length : length - candidate;
        if (closest == 0 || gap < distance || (gap == distance && candidate < closest)) {
            closest = candidate;
            distance = gap;
        }
    }
    return closest;
}

// 0 without a hypothesis or without a reference: there is nothing to score.
SB_HD inline double bleu_brevity_penalty(std::int64_t length, std::int64_t closest) {
    if (length == 0 || closest == 0) return 0.0;
    if (length >= closest) return 1.0;
    return exp(1.0 - static_cast<double>(closest) / static_cast<double>(length));
}

SB_HD inline double bleu_root(double product, int order) {
    switch (order) {
        case 1:
            return product;
        case 2:
            return sqrt(product);
        case 4:
            return sqrt(sqrt(product));
        case 8:
            return sqrt(sqrt(sqrt(product)));
        default:
            return pow(product, 1.0 / order);
    }
}

// BLEU in [0, 1] of clipped matches and totals of the orders 1..max_order. The geometric mean is one root of one quotient
// of products: counts are below 2^63 and smoothing values within [1e-30, 1e30], so eight of them neither overflow nor
// vanish.
SB_HD inline double bleu_score(const std::int64_t* matches, const std::int64_t* totals, int max_order, double brevity,
                               const BleuScoring& scoring) {
    if (brevity == 0.0) return 0.0;
    if (scoring.smoothing != BleuSmoothing::add_one_all) {
        bool any = false;
        for (int n = 0; n < max_order; ++n) any = any || matches[n] != 0;
        if (!any) return 0.0;
    }
    double numerators = 1.0, denominators = 1.0, halving = 1.0;
    int order = 0;
    for (int n = 0; n < max_order; ++n) {
        double match = static_cast<double>(matches[n]), total = static_cast<double>(totals[n]);
        if (scoring.smoothing == BleuSmoothing::add_one_all || (scoring.smoothing == BleuSmoothing::add_k && n > 0)) {
            match += scoring.value;
            total += scoring.value;
        }
        if (total == 0.0) {  // the hypothesis is shorter than this order
            if (!scoring.effective_order) return 0.0;
            break;
        }
        if (match == 0.0) {
            if (scoring.smoothing == BleuSmoothing::exponential) {
                halving *= 0.5;
                match = halving;
            } else if (scoring.smoothing == BleuSmoothing::floor) {
                match = scoring.value;
            }
            if (match == 0.0) return 0.0;
        }
        numerators *= match;
        denominators *= total;
        ++order;
    }
    return order == 0 ? 0.0 : brevity * bleu_root(numerators / denominators, order);
}

// The score of a prefix: the totals follow from its length.
SB_HD inline double bleu_prefix_score(const std::int64_t* matches, std::int32_t length, int max_order, double brevity,
                                      const BleuScoring& scoring) {
    std::int64_t totals[kBleuMaxOrder];
    for (int n = 0; n < max_order; ++n) totals[n] = length > n ? length - n : 0;
    return bleu_score(matches, totals, max_order, brevity, scoring);
}

// What a payoff in [0, 1] is multiplied by: the mean length of the references that are present.
SB_HD inline double bleu_mean_length(const std::int32_t* lengths, std::int32_t count) {
    std::int64_t sum = 0, present = 0;
    for (std::int32_t r = 0; r < count; ++r) {
        sum += lengths[r];
        present += lengths[r] != 0;
    }
    return present == 0 ? 0.0 : static_cast<double>(sum) / static_cast<double>(present);
}

// One row of counts: matches of the orders 1..n, totals of the orders 1..n, hypothesis length, closest reference length.
SB_HD inline void bleu_write_counts(std::int64_t* out, const std::int64_t* matches, std::int32_t length, int max_order,
                                    std::int32_t closest) {
    for (int n = 0; n < max_order; ++n) {
        out[n] = matches[n];
        out[max_order + n] = length > n ? length - n : 0;
    }
    out[2 * max_order] = length;
    out[2 * max_order + 1] = closest;
}

struct BleuScoreRequest {
    BleuScoring scoring;
    BleuOutput output;
    bool scale_by_reference_length;  // rewards only
    bool float64;                    // type of `out`, else float32
    void* out;                       // [B, K, T], sentence: [B, K]; every element is written
};

struct BleuCountRequest {
    bool every_prefix;
    std::int64_t* out;  // [B, K, 2n+2], every prefix: [B, K, T, 2n+2]; every element is written
};

// The caller allocates `workspace`: the bytes that the function named so asks for, 16-byte aligned.
namespace cpu {
std::int64_t bleu_workspace(const BleuProblem& problem, int threads);
void bleu_scores(const BleuProblem& problem, const BleuScoreRequest& request, void* workspace, int threads);
void bleu_counts(const BleuProblem& problem, const BleuCountRequest& request, void* workspace, int threads);
}  // namespace cpu
namespace cuda {
std::int64_t bleu_workspace(const BleuProblem& problem);
void bleu_scores(const BleuProblem& problem, const BleuScoreRequest& request, void* workspace, int device, void* stream);
void bleu_counts(const BleuProblem& problem, const BleuCountRequest& request, void* workspace, int device, void* stream);
}  // namespace cuda

}  // namespace softbellman
