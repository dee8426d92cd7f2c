// CIDEr-D on the CPU: the length penalties of all gaps once, each source's reference norms once, then each hypothesis in one
// walk over its tokens.
#include "payoffs/cider.h"

#include <algorithm>

#include "payoffs/payoff_rows.h"

namespace softbellman::cpu {
namespace {

// One thread's piece of the workspace.
struct Scratch {
    double* inverse_norms;  // [R, N] of the references
    double* products;       // [R, N]: h . r so far
    std::int32_t* lengths;  // [R]

    static std::int64_t bytes(const BleuProblem& problem) {
        const std::int64_t cells = std::int64_t(problem.reference_count) * problem.max_order;
        return (16 * cells + 4 * std::int64_t(problem.reference_count) + 63) / 64 * 64;
    }
    Scratch(const BleuProblem& problem, void* workspace, int worker) {
        const std::int64_t cells = std::int64_t(problem.reference_count) * problem.max_order;
        inverse_norms = reinterpret_cast<double*>(static_cast<char*>(workspace) + worker * bytes(problem));
        products = inverse_norms + cells;
        lengths = reinterpret_cast<std::int32_t*>(products + cells);
    }
};

// What the token at t adds to a sequence: each order's squared weight and how often its n-gram came before.
struct Walk {
    const BleuProblem& problem;
    const DocumentTable& table;
    const std::int64_t* tokens;
    double squared[kBleuMaxOrder] = {}, squared_norm[kBleuMaxOrder] = {};
    std::int32_t before[kBleuMaxOrder] = {}, nodes[kBleuMaxOrder];
    int matching = 0, present = 0;

    Walk(const BleuProblem& problem, const DocumentTable& table, const std::int64_t* tokens)
        : problem(problem), table(table), tokens(tokens) {
        std::fill(nodes, nodes + kBleuMaxOrder, kNoNode);
    }
    void step(std::int32_t t) {
        matching = cider_matching_orders(problem, tokens, t);
        present = std::min(problem.max_order, t + 1);
        const std::int32_t token = matching > 0 ? table.find_token(tokens[t]) : kNoNode;
        for (int n = problem.max_order - 1; n > 0; --n) nodes[n] = table.find_child(nodes[n - 1], token);
        nodes[0] = token;
        count_equal_ngrams(tokens, t, tokens, t, matching, before);
        for (int n = 0; n < present; ++n) {
            squared[n] = table.squared_weight(nodes[n]);
            squared_norm[n] += squared[n] * (2 * before[n] + 1);
        }
    }
};

// The penalties lie behind the threads' pieces.
double* penalties_of(const BleuProblem& problem, void* workspace, int threads) {
    return reinterpret_cast<double*>(static_cast<char*>(workspace) + std::max(threads, 1) * Scratch::bytes(problem));
}

std::int32_t gap_count(const BleuProblem& problem) {
    return std::max({problem.length, problem.reference_length, 1});
}

void measure_references(const BleuProblem& problem, const DocumentTable& table, std::int64_t b, const Scratch& scratch) {
    payoff_reference_lengths(problem, b, scratch.lengths);
    for (std::int32_t r = 0; r < problem.reference_count; ++r) {
        Walk walk(problem, table, problem.source_references(b) + r * problem.reference_stride);
        for (std::int32_t t = 0; t < scratch.lengths[r]; ++t) walk.step(t);
        for (int n = 0; n < problem.max_order; ++n)
            scratch.inverse_norms[r * problem.max_order + n] = cider_inverse_norm(walk.squared_norm[n]);
    }
}

template <class Out>
void score_hypothesis(const BleuProblem& problem, const DocumentTable& table, const CiderRequest& request,
                      const Scratch& scratch, const double* penalties, std::int64_t b, std::int64_t k) {
    const int orders = problem.max_order;
    const std::int32_t references = problem.reference_count;
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = payoff_cut(problem, tokens, problem.stated_length(b, k));
    const double factor = cider_mean_factor(scratch.lengths, references, orders);
    std::fill(scratch.products, scratch.products + std::int64_t(references) * orders, 0.0);
    Walk walk(problem, table, tokens);

    const auto payoff_at = [&](std::int32_t t, bool wanted) {
        walk.step(t);
        for (std::int32_t r = 0; r < references; ++r) {
            std::int32_t counts[kBleuMaxOrder];
            count_equal_ngrams(problem.source_references(b) + r * problem.reference_stride, scratch.lengths[r], tokens, t,
                               walk.matching, counts);
            for (int n = 0; n < walk.matching && counts[n] != 0; ++n)
                if (counts[n] > walk.before[n]) scratch.products[r * orders + n] += walk.squared[n] * counts[n];
        }
        if (!wanted) return 0.0;
        double inverse_norm[kBleuMaxOrder], sum = 0.0;
        for (int n = 0; n < orders; ++n) inverse_norm[n] = cider_inverse_norm(walk.squared_norm[n]);
        for (std::int32_t r = 0; r < references; ++r) {
            double cosines = 0.0;
            for (int n = 0; n < orders; ++n)
                cosines += scratch.products[r * orders + n] * scratch.inverse_norms[r * orders + n] * inverse_norm[n];
            if (cosines != 0.0) sum += cosines * penalties[cider_length_gap(t + 1, scratch.lengths[r])];
        }
        return factor * sum;
    };
    write_payoffs<Out>(problem, request, b * problem.samples + k, length, payoff_scale(problem, request, scratch.lengths),
                       payoff_at);
}

}  // namespace

std::int64_t cider_workspace(const BleuProblem& problem, int threads) {
    return std::max(threads, 1) * Scratch::bytes(problem) + 8 * std::int64_t(gap_count(problem));
}

void cider_scores(const BleuProblem& problem, const DocumentTable& table, const CiderRequest& request, void* workspace,
                  int threads) {
    double* penalties = penalties_of(problem, workspace, threads);
    for (std::int32_t gap = 0; gap < gap_count(problem); ++gap) penalties[gap] = cider_length_penalty(gap, request.sigma);
    for_each_source_share(problem, threads, [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
        const Scratch scratch(problem, workspace, worker);
        measure_references(problem, table, b, scratch);
        for (std::int64_t k = first; k < last; ++k) {
            if (request.float64)
                score_hypothesis<double>(problem, table, request, scratch, penalties, b, k);
            else
                score_hypothesis<float>(problem, table, request, scratch, penalties, b, k);
        }
    });
}

}  // namespace softbellman::cpu
