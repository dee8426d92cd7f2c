// What the payoffs share on the CPU: lengths, sources over threads, and the results of one hypothesis.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/parallel.h"
#include "payoffs/token_batch.h"

namespace softbellman::cpu {

// The tokens of a row before the first eos.
inline std::int32_t cut_length(const TokenIds& ids, const TokenMatrix& matrix, std::int64_t source, std::int64_t row) {
    const std::int64_t* tokens = matrix.row(source, row);
    const std::int32_t stated = matrix.stated_length(source, row);
    if (!ids.has_eos) return stated;
    return static_cast<std::int32_t>(std::find(tokens, tokens + stated, ids.eos) - tokens);
}
inline void reference_lengths(const TokenBatch& batch, std::int64_t b, std::int32_t* lengths) {
    for (std::int32_t r = 0; r < batch.reference_count(); ++r) lengths[r] = cut_length(batch, batch.references, b, r);
}

// Calls body(worker, b, first, last) so that every hypothesis [first, last) of every source b is covered once. A unit of
// work is a source, or a share of its hypotheses when there are fewer sources than threads. `useful`: how many threads the
// work is worth.
template <class Body>
void for_each_source_share(const TokenBatch& batch, int threads, std::int64_t useful, const Body& body) {
    if (batch.hypotheses.count() == 0) return;
    const std::int64_t wanted = (threads + batch.sources() - 1) / batch.sources();
    const std::int64_t shares = std::max<std::int64_t>(1, std::min(wanted, batch.samples()));
    const std::int64_t units = batch.sources() * shares;
    const int workers = static_cast<int>(std::min({std::int64_t(std::max(threads, 1)), units, useful}));

    std::atomic<std::int64_t> next_unit{0};
    const auto work = [&](int worker) {
        for (std::int64_t unit = next_unit.fetch_add(1); unit < units; unit = next_unit.fetch_add(1)) {
            const std::int64_t b = unit / shares, share = unit % shares;
            body(worker, b, batch.samples() * share / shares, batch.samples() * (share + 1) / shares);
        }
    };
    if (workers == 1)
        work(0);
    else
        run_threads(workers, work);
}

// How many threads a walk is worth that compares each token with those before it and those of the references.
inline std::int64_t comparing_threads(const TokenBatch& batch) {
    constexpr std::int64_t kSerialComparisons = 1 << 16;  // below, a second thread costs more than it brings
    const std::int64_t width = batch.length() + std::int64_t(batch.reference_count()) * batch.reference_length();
    return batch.hypotheses.count() * batch.length() * width / kSerialComparisons + 1;
}

// Writes what `result` wants of a hypothesis. payoff_at(t, wanted) takes the token at t and returns the payoff of the
// prefix that ends there; it is called for every t in order, and its value counts where `wanted`.
template <class Out, class PayoffAt>
void write_payoffs(const TokenBatch& batch, const PayoffResult& result, std::int64_t row, std::int32_t length, double scale,
                   const PayoffAt& payoff_at) {
    if (result.output == PayoffOutput::sentence) {
        double last = 0.0;
        for (std::int32_t t = 0; t < length; ++t) last = payoff_at(t, t + 1 == length);
        static_cast<Out*>(result.out)[row] = static_cast<Out>(last);
        return;
    }
    Out* out = static_cast<Out*>(result.out) + row * batch.length();
    const bool rewards = result.output == PayoffOutput::reward;
    double before = 0.0;
    for (std::int32_t t = 0; t < length; ++t) {
        const double payoff = exact_multiply(scale, payoff_at(t, true));
        out[t] = static_cast<Out>(rewards ? exact_add(payoff, -before) : payoff);
        before = payoff;
    }
    std::fill(out + length, out + batch.length(), Out(0));
}

}  // namespace softbellman::cpu
