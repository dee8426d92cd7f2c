// CIDEr-D on the CPU: the length penalties of all gaps once, each source's reference norms once, then each hypothesis in one
// walk over its tokens.
#include "payoffs/cider.h"

#include <algorithm>

#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

// One thread's piece of the workspace.
struct Scratch {
    double* inverse_norms;  // [R, N] of the references
    double* products;       // [R, N]: h . r so far
    std::int32_t* lengths;  // [R]

    static std::int64_t bytes(const NgramBatch& batch) {
        const std::int64_t cells = std::int64_t(batch.reference_count()) * batch.max_order;
        return (16 * cells + 4 * std::int64_t(batch.reference_count()) + 63) / 64 * 64;
    }
    Scratch(const NgramBatch& batch, void* workspace, int worker) {
        const std::int64_t cells = std::int64_t(batch.reference_count()) * batch.max_order;
        inverse_norms = reinterpret_cast<double*>(static_cast<char*>(workspace) + worker * bytes(batch));
        products = inverse_norms + cells;
        lengths = reinterpret_cast<std::int32_t*>(products + cells);
    }
};

// What the token at t adds to a sequence: each order's squared weight and how often its n-gram came before.
struct Walk {
    const CiderScores& scores;
    const std::int64_t* tokens;
    double squared[kLargestOrder] = {}, squared_norm[kLargestOrder] = {};
    std::int32_t before[kLargestOrder] = {}, nodes[kLargestOrder];
    int matching = 0, present = 0;

    Walk(const CiderScores& scores, const std::int64_t* tokens) : scores(scores), tokens(tokens) {
        std::fill(nodes, nodes + kLargestOrder, kNoNode);
    }
    void step(std::int32_t t) {
        matching = cider_matching_orders(scores, tokens, t);
        present = std::min(scores.max_order, t + 1);
        const std::int32_t token = matching > 0 ? scores.find_token(tokens[t]) : kNoNode;
        for (int n = scores.max_order - 1; n > 0; --n) nodes[n] = scores.find_child(nodes[n - 1], token);
        nodes[0] = token;
        count_equal_ngrams(tokens, t, tokens, t, matching, before);
        for (int n = 0; n < present; ++n) {
            squared[n] = scores.squared_weight(nodes[n]);
            squared_norm[n] += squared[n] * (2 * before[n] + 1);
        }
    }
};

// The penalties lie behind the threads' pieces.
double* penalties_of(const NgramBatch& batch, void* workspace, int threads) {
    return reinterpret_cast<double*>(static_cast<char*>(workspace) + std::max(threads, 1) * Scratch::bytes(batch));
}

std::int32_t gap_count(const NgramBatch& batch) {
    return std::max({batch.length(), batch.reference_length(), 1});
}

void measure_references(const CiderScores& scores, std::int64_t b, const Scratch& scratch) {
    reference_lengths(scores, b, scratch.lengths);
    for (std::int32_t r = 0; r < scores.reference_count(); ++r) {
        Walk walk(scores, scores.references.row(b, r));
        for (std::int32_t t = 0; t < scratch.lengths[r]; ++t) walk.step(t);
        for (int n = 0; n < scores.max_order; ++n)
            scratch.inverse_norms[r * scores.max_order + n] = cider_inverse_norm(walk.squared_norm[n]);
    }
}

template <class Out>
void score_hypothesis(const CiderScores& scores, const Scratch& scratch, const double* penalties, std::int64_t b,
                      std::int64_t k) {
    const int orders = scores.max_order;
    const std::int32_t references = scores.reference_count();
    const std::int64_t* tokens = scores.hypotheses.row(b, k);
    const std::int32_t length = cut_length(scores, scores.hypotheses, b, k);
    const double factor = cider_mean_factor(scratch.lengths, references, orders);
    std::fill(scratch.products, scratch.products + std::int64_t(references) * orders, 0.0);
    Walk walk(scores, tokens);

    const auto payoff_at = [&](std::int32_t t, bool wanted) {
        walk.step(t);
        for (std::int32_t r = 0; r < references; ++r) {
            std::int32_t counts[kLargestOrder];
            count_equal_ngrams(scores.references.row(b, r), scratch.lengths[r], tokens, t, walk.matching, counts);
            for (int n = 0; n < walk.matching && counts[n] != 0; ++n)
                if (counts[n] > walk.before[n]) scratch.products[r * orders + n] += walk.squared[n] * counts[n];
        }
        if (!wanted) return 0.0;
        double inverse_norm[kLargestOrder], sum = 0.0;
        for (int n = 0; n < orders; ++n) inverse_norm[n] = cider_inverse_norm(walk.squared_norm[n]);
        for (std::int32_t r = 0; r < references; ++r) {
            double cosines = 0.0;
            for (int n = 0; n < orders; ++n)
                cosines += scratch.products[r * orders + n] * scratch.inverse_norms[r * orders + n] * inverse_norm[n];
            if (cosines != 0.0) sum += cosines * penalties[cider_length_gap(t + 1, scratch.lengths[r])];
        }
        return factor * sum;
    };
    write_payoffs<Out>(scores, scores, b * scores.samples() + k, length, payoff_scale(scores, scores, scratch.lengths),
                       payoff_at);
}

}  // namespace

std::int64_t cider_workspace(const NgramBatch& batch, int threads) {
    return std::max(threads, 1) * Scratch::bytes(batch) + 8 * std::int64_t(gap_count(batch));
}

void cider_scores(const CiderScores& scores, int threads) {
    scores.workspace.check(cider_workspace(scores, threads));
    double* penalties = penalties_of(scores, scores.workspace.memory, threads);
    for (std::int32_t gap = 0; gap < gap_count(scores); ++gap) penalties[gap] = cider_length_penalty(gap, scores.sigma);
    for_each_source_share(scores, threads, comparing_threads(scores),
                          [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
                              const Scratch scratch(scores, scores.workspace.memory, worker);
                              measure_references(scores, b, scratch);
                              for (std::int64_t k = first; k < last; ++k) {
                                  if (scores.float64)
                                      score_hypothesis<double>(scores, scratch, penalties, b, k);
                                  else
                                      score_hypothesis<float>(scores, scratch, penalties, b, k);
                              }
                          });
}

}  // namespace softbellman::cpu
