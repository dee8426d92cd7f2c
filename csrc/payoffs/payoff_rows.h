// What the payoffs of captions share on the CPU: sources over threads, lengths, and the results of one hypothesis.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "payoffs/bleu.h"
#include "core/parallel.h"

namespace softbellman::cpu {

// Token comparisons below which a second thread costs more than it brings.
constexpr std::int64_t kSerialComparisons = 1 << 16;

inline std::int32_t payoff_cut(const BleuProblem& problem, const std::int64_t* tokens, std::int32_t stated) {
    if (!problem.has_eos) return stated;
    return static_cast<std::int32_t>(std::find(tokens, tokens + stated, problem.eos) - tokens);
}

inline void payoff_reference_lengths(const BleuProblem& problem, std::int64_t b, std::int32_t* lengths) {
    for (std::int32_t r = 0; r < problem.reference_count; ++r)
        lengths[r] = payoff_cut(problem, problem.source_references(b) + r * problem.reference_stride,
                                problem.stated_reference_length(b, r));
}

// Calls body(worker, b, first, last) so that every hypothesis [first, last) of every source b is covered once. A unit of
// work is a source, or a share of its hypotheses when there are fewer sources than threads.
template <class Body>
void for_each_source_share(const BleuProblem& problem, int threads, const Body& body) {
    if (problem.sources == 0 || problem.samples == 0) return;
    const std::int64_t wanted = (threads + problem.sources - 1) / problem.sources;
    const std::int64_t shares = std::max<std::int64_t>(1, std::min(wanted, problem.samples));
    const std::int64_t units = problem.sources * shares;
    const std::int64_t width = problem.length + std::int64_t(problem.reference_count) * problem.reference_length;
    const std::int64_t useful = problem.sources * problem.samples * problem.length * width / kSerialComparisons + 1;
    const int workers = static_cast<int>(std::min({std::int64_t(std::max(threads, 1)), units, useful}));

    std::atomic<std::int64_t> next_unit{0};
    const auto work = [&](int worker) {
        for (std::int64_t unit = next_unit.fetch_add(1); unit < units; unit = next_unit.fetch_add(1)) {
            const std::int64_t b = unit / shares, share = unit % shares;
            body(worker, b, problem.samples * share / shares, problem.samples * (share + 1) / shares);
        }
    };
    if (workers == 1)
        work(0);
    else
        run_threads(workers, work);
}

// Writes what `request` wants of a hypothesis. payoff_at(t, wanted) takes the token at t and returns the payoff of the
// prefix that ends there; it is called for every t in order, and its value counts where `wanted`.
template <class Out, class Request, class PayoffAt>
void write_payoffs(const BleuProblem& problem, const Request& request, std::int64_t row, std::int32_t length, double scale,
                   const PayoffAt& payoff_at) {
    if (request.output == BleuOutput::sentence) {
        double last = 0.0;
        for (std::int32_t t = 0; t < length; ++t) last = payoff_at(t, t + 1 == length);
        static_cast<Out*>(request.out)[row] = static_cast<Out>(last);
        return;
    }
    Out* out = static_cast<Out*>(request.out) + row * problem.length;
    const bool rewards = request.output == BleuOutput::reward;
    double before = 0.0;
    for (std::int32_t t = 0; t < length; ++t) {
        const double payoff = scale * payoff_at(t, true);
        out[t] = static_cast<Out>(rewards ? payoff - before : payoff);
        before = payoff;
    }
    std::fill(out + length, out + problem.length, Out(0));
}

template <class Request>
double payoff_scale(const BleuProblem& problem, const Request& request, const std::int32_t* reference_lengths) {
    const bool scaled = request.output == BleuOutput::reward && request.scale_by_reference_length;
    return scaled ? bleu_mean_length(reference_lengths, problem.reference_count) : 1.0;
}

}  // namespace softbellman::cpu
