// BLEU of token sequences: what is asked about a batch, and the score of one set of counts, for host and device. Counting
// lives in ngram_index.h; bleu.cpp and bleu.cu walk the hypotheses with it. Notation of token_batch.h.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/device.h"
#include "payoffs/token_batch.h"

namespace softbellman {

enum class BleuSmoothing : int { none = 0, floor = 1, add_k = 2, exponential = 3, add_one_all = 4, add_k_length = 5 };

struct BleuScoring {
    BleuSmoothing smoothing = BleuSmoothing::none;
    bool effective_order = false;
    double smooth_value = 0.0;  // of floor, add-k, add-k-length and add-one-all

    SB_HD bool adds_to_longer() const {
        return smoothing == BleuSmoothing::add_k || smoothing == BleuSmoothing::add_k_length;
    }
    SB_HD double added_length() const { return smoothing == BleuSmoothing::add_k_length ? smooth_value : 0.0; }

    template <class Fields>
    void describe(Fields& fields) {
        fields.integer("smoothing", smoothing, 0, 5);
        fields.not_negative("smooth_value", smooth_value);
        fields.integer("effective_order", effective_order, 0, 1);
        fields.rule(smooth_value == 0.0 || (smooth_value >= 1e-30 && smooth_value <= 1e30),
                    "smooth_value must be 0 or between 1e-30 and 1e30");
    }
};
// nvcc 13.0 places a second base class whose last bytes are padding elsewhere on the device than on the host.
static_assert(sizeof(BleuScoring) == 16, "BleuScoring must end with a field, not with padding");

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
SB_HD inline double bleu_brevity_penalty(std::int64_t length, std::int64_t closest, const BleuScoring& scoring) {
    if (length == 0 || closest == 0) return 0.0;
    const double wanted = static_cast<double>(closest) + scoring.added_length(), said = static_cast<double>(length);
    return said >= wanted ? 1.0 : exp(1.0 - wanted / said);
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
        if (scoring.smoothing == BleuSmoothing::add_one_all || (scoring.adds_to_longer() && n > 0)) {
            match += scoring.smooth_value;
            total += scoring.smooth_value;
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
                match = scoring.smooth_value;
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
    std::int64_t totals[kLargestOrder];
    for (int n = 0; n < max_order; ++n) totals[n] = length > n ? length - n : 0;
    return bleu_score(matches, totals, max_order, brevity, scoring);
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

struct BleuScores : NgramBatch, BleuScoring, PayoffResult {
    template <class Fields>
    void describe(Fields& fields) {
        NgramBatch::describe(fields);
        BleuScoring::describe(fields);
        PayoffResult::describe(fields, *this);
    }
};

struct BleuCounts : NgramBatch {
    bool every_prefix = false;
    std::int64_t* out = nullptr;  // [B, K, 2n+2], every prefix: [B, K, T, 2n+2]; every element is written
    Workspace workspace;

    template <class Fields>
    void describe(Fields& fields) {
        NgramBatch::describe(fields);
        fields.integer("every_prefix", every_prefix, 0, 1);
        fields.array("out", out, hypotheses.count() * (every_prefix ? length() : 1) * (2 * max_order + 2));
        workspace.describe(fields);
    }
};

// BLEU in [0, 1] of counts that were added up: matches 1..n, totals 1..n, length, closest reference length.
struct CorpusBleu : BleuScoring {
    const std::int64_t* counts = nullptr;
    std::int64_t count_total = 0;

    template <class Fields>
    void describe(Fields& fields) {
        fields.counted_array("counts", counts, count_total);
        BleuScoring::describe(fields);
        fields.rule(count_total >= 4 && count_total % 2 == 0 && count_total <= 2 * kLargestOrder + 2,
                    "counts must have 2 * max_order + 2 elements");
    }
    double score() const {
        const int order = static_cast<int>(count_total - 2) / 2;
        const double brevity = bleu_brevity_penalty(counts[2 * order], counts[2 * order + 1], *this);
        return bleu_score(counts, counts + order, order, brevity, *this);
    }
};

namespace cpu {
std::int64_t bleu_workspace(const NgramBatch& batch, int threads);
void bleu_scores(const BleuScores& scores, int threads);
void bleu_counts(const BleuCounts& counts, int threads);
}  // namespace cpu
namespace cuda {
std::int64_t bleu_workspace(const NgramBatch& batch);
void bleu_scores(const BleuScores& scores, const Launch& launch);
void bleu_counts(const BleuCounts& counts, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
