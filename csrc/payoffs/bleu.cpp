// Prefix, sentence and corpus BLEU on the CPU.
//
// A unit of work is a source, or a share of its hypotheses when there are fewer sources than threads. A thread builds the
// n-gram index of the source's references, then walks each hypothesis once: one table probe for each order and token while
// the chain of n-grams is alive, none after a token that no reference holds. Tokens are read once, scores written once.
#include "payoffs/bleu.h"

#include <algorithm>

#include "payoffs/bleu_walk.h"
#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

// Calls at_prefix(length, matches) for each prefix length 1..length. kOrder is the order, or 0: batch.max_order.
template <int kOrder, class AtPrefix>
void walk(const NgramIndex& index, const NgramBatch& batch, const std::int64_t* tokens, std::int32_t length,
          const AtPrefix& at_prefix) {
    PrefixMatches<kOrder> prefix;
    for (std::int32_t t = 0; t < length; ++t) {
        prefix.take(index, batch, tokens[t]);
        at_prefix(t + 1, prefix.matches);
    }
    std::fill(index.count, index.count + index.node_count, 0);
}

template <class AtPrefix>
void walk_any_order(const NgramIndex& index, const NgramBatch& batch, const std::int64_t* tokens, std::int32_t length,
                    const AtPrefix& at_prefix) {
    if (batch.max_order == 4)
        walk<4>(index, batch, tokens, length, at_prefix);
    else
        walk<0>(index, batch, tokens, length, at_prefix);
}

// The matches of a whole hypothesis, [kLargestOrder].
void count_whole(const NgramIndex& index, const NgramBatch& batch, const std::int64_t* tokens, std::int32_t length,
                 std::int64_t* last) {
    std::fill(last, last + kLargestOrder, 0);
    walk_any_order(index, batch, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
        if (prefix == length) std::copy(matches, matches + batch.max_order, last);
    });
}

template <class Out>
void score_hypothesis(const NgramIndex& index, const BleuScores& scores, BrevityTable& brevity, std::int64_t b,
                      std::int64_t k) {
    const std::int64_t* tokens = scores.hypotheses.row(b, k);
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k);
    const std::int64_t row = b * scores.samples() + k;
    const auto payoff = [&](std::int32_t prefix, const std::int64_t* matches) {
        return bleu_prefix_score(matches, prefix, scores.max_order, brevity(prefix), scores);
    };
    if (scores.output == PayoffOutput::sentence) {
        std::int64_t last[kLargestOrder];
        count_whole(index, scores, tokens, length, last);
        static_cast<Out*>(scores.out)[row] = static_cast<Out>(length == 0 ? 0.0 : payoff(length, last));
        return;
    }
    Out* out = static_cast<Out*>(scores.out) + row * scores.length();
    if (scores.output == PayoffOutput::prefix) {
        walk_any_order(index, scores, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            out[prefix - 1] = static_cast<Out>(payoff(prefix, matches));
        });
    } else {
        const double scale = payoff_scale(scores, scores, index.lengths);
        double before = 0.0;
        walk_any_order(index, scores, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            const double value = exact_multiply(scale, payoff(prefix, matches));
            out[prefix - 1] = static_cast<Out>(exact_add(value, -before));
            before = value;
        });
    }
    std::fill(out + length, out + scores.length(), Out(0));
}

void count_hypothesis(const NgramIndex& index, const BleuCounts& counts, std::int64_t b, std::int64_t k) {
    const std::int64_t* tokens = counts.hypotheses.row(b, k);
    const std::int32_t length = cut_length(counts, counts.hypotheses, b, k);
    const std::int64_t row = b * counts.samples() + k;
    const int max_order = counts.max_order, width = 2 * max_order + 2;
    const auto closest = [&](std::int32_t prefix) {
        return bleu_closest_length(index.lengths, counts.reference_count(), prefix);
    };
    if (!counts.every_prefix) {
        std::int64_t last[kLargestOrder];
        count_whole(index, counts, tokens, length, last);
        bleu_write_counts(counts.out + row * width, last, length, max_order, closest(length));
        return;
    }
    std::int64_t* out = counts.out + row * counts.length() * width;
    walk_any_order(index, counts, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
        bleu_write_counts(out + (prefix - 1) * width, matches, prefix, max_order, closest(prefix));
    });
    std::fill(out + static_cast<std::int64_t>(length) * width, out + static_cast<std::int64_t>(counts.length()) * width, 0);
}

std::int64_t slot_bytes(const NgramBatch& batch) {
    return NgramIndexLayout(batch).bytes() + (8 * static_cast<std::int64_t>(batch.length()) + 63) / 64 * 64;
}

// How many threads the table probes are worth.
std::int64_t probing_threads(const NgramBatch& batch, int threads) {
    constexpr std::int64_t kSerialProbes = 1 << 15;  // below, a second thread costs more than it brings
    const std::int64_t references = std::int64_t(batch.reference_count()) * batch.reference_length();
    const std::int64_t indices = std::max(batch.sources(), std::int64_t(threads));
    return batch.max_order * (batch.hypotheses.count() * batch.length() + indices * references) / kSerialProbes + 1;
}

// Calls per_hypothesis(index, brevity, b, k) for every hypothesis.
template <class PerHypothesis>
void for_each_hypothesis(const NgramBatch& batch, const BleuScoring& scoring, void* workspace, int threads,
                         const PerHypothesis& per_hypothesis) {
    const NgramIndexLayout layout(batch);
    const std::int64_t useful = probing_threads(batch, threads);
    for_each_source_share(batch, threads, useful, [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
        char* memory = static_cast<char*>(workspace) + worker * slot_bytes(batch);
        const NgramIndex index = layout.place(memory, batch.references.row(b, 0));
        build_ngram_index(index, batch, b, OneLane());
        BrevityTable brevity(reinterpret_cast<double*>(memory + layout.bytes()), index, batch.reference_count(), scoring);
        for (std::int64_t k = first; k < last; ++k) per_hypothesis(index, brevity, b, k);
    });
}

}  // namespace

std::int64_t bleu_workspace(const NgramBatch& batch, int threads) {
    return std::max(threads, 1) * slot_bytes(batch);
}

void bleu_scores(const BleuScores& scores, int threads) {
    scores.workspace.check(bleu_workspace(scores, threads));
    for_each_hypothesis(scores, scores, scores.workspace.memory, threads,
                        [&](const NgramIndex& index, BrevityTable& brevity, std::int64_t b, std::int64_t k) {
                            if (scores.float64)
                                score_hypothesis<double>(index, scores, brevity, b, k);
                            else
                                score_hypothesis<float>(index, scores, brevity, b, k);
                        });
}

void bleu_counts(const BleuCounts& counts, int threads) {
    counts.workspace.check(bleu_workspace(counts, threads));
    for_each_hypothesis(counts, BleuScoring(), counts.workspace.memory, threads,
                        [&](const NgramIndex& index, BrevityTable&, std::int64_t b, std::int64_t k) {
                            count_hypothesis(index, counts, b, k);
                        });
}

}  // namespace softbellman::cpu
