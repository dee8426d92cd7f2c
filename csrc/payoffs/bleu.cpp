// Prefix, sentence and corpus BLEU on the CPU.
//
// A unit of work is a source, or a share of its hypotheses when there are fewer sources than threads. A thread builds the
// n-gram index of the source's references, then walks each hypothesis once: one table probe for each order and token while
// the chain of n-grams is alive, none after a token that no reference holds. Tokens are read once, scores written once.
#include "payoffs/bleu.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "payoffs/ngram_index.h"
#include "core/parallel.h"

namespace softbellman::cpu {
namespace {

// Table probes below which a second thread costs more than it brings.
constexpr std::int64_t kSerialSteps = 1 << 15;

struct OneLane {
    static constexpr int lane = 0, size = 1;
    void sync() const {}
    static unsigned long long claim(unsigned long long* slot, unsigned long long value) {
        const unsigned long long held = *slot;
        if (held == 0) *slot = value;
        return held;
    }
    static std::int32_t add(std::int32_t* value, std::int32_t by) {
        const std::int32_t old = *value;
        *value = old + by;
        return old;
    }
    static void maximum(std::int32_t* value, std::int32_t other) { *value = std::max(*value, other); }
    static void minimum(std::int32_t* value, std::int32_t other) { *value = std::min(*value, other); }
};

std::int32_t cut_length(const BleuProblem& problem, const std::int64_t* tokens, std::int32_t stated) {
    if (!problem.has_eos) return stated;
    return static_cast<std::int32_t>(std::find(tokens, tokens + stated, problem.eos) - tokens);
}

// Calls at_prefix(length, matches) for each prefix length 1..length. kOrder is the order, or 0: problem.max_order.
template <int kOrder, class AtPrefix>
void walk(const NgramIndex& index, const BleuProblem& problem, const std::int64_t* tokens, std::int32_t length,
          const AtPrefix& at_prefix) {
    const int max_order = kOrder ? kOrder : problem.max_order;
    std::int64_t matches[kBleuMaxOrder] = {};
    std::int32_t nodes[kBleuMaxOrder];  // nodes[n]: the n+1 tokens that end here
    std::fill(nodes, nodes + kBleuMaxOrder, kNoNode);
    for (std::int32_t t = 0; t < length; ++t) {
        const std::int64_t token = tokens[t];
        const bool unmatched = problem.has_unmatched && token == problem.unmatched;
        const std::int32_t node = unmatched ? kNoNode : index.find_token(token);
        for (int n = max_order - 1; n > 0; --n)
            nodes[n] = node == kNoNode || nodes[n - 1] == kNoNode ? kNoNode : index.find_child(nodes[n - 1], node);
        nodes[0] = node;
        for (int n = 0; n < max_order && nodes[n] != kNoNode; ++n)  // no longer n-gram without the shorter one
            matches[n] += index.count[nodes[n]]++ < index.clip[nodes[n]];
        at_prefix(t + 1, matches);
    }
    std::fill(index.count, index.count + index.node_count, 0);
}

template <class AtPrefix>
void walk_any_order(const NgramIndex& index, const BleuProblem& problem, const std::int64_t* tokens, std::int32_t length,
                    const AtPrefix& at_prefix) {
    if (problem.max_order == 4)
        walk<4>(index, problem, tokens, length, at_prefix);
    else
        walk<0>(index, problem, tokens, length, at_prefix);
}

// The brevity penalties of one source by prefix length, filled as far as they are asked for: K hypotheses share them.
class BrevityTable {
 public:
    BrevityTable(double* values, const NgramIndex& index, std::int32_t references)
        : values_(values), lengths_(index.lengths), references_(references) {}
    double operator()(std::int32_t length) {
        while (filled_ < length) {
            ++filled_;
            values_[filled_ - 1] = bleu_brevity_penalty(filled_, bleu_closest_length(lengths_, references_, filled_));
        }
        return values_[length - 1];
    }

 private:
    double* values_;
    const std::int32_t* lengths_;
    std::int32_t references_, filled_ = 0;
};

template <class Out>
void score_hypothesis(const NgramIndex& index, const BleuProblem& problem, const BleuScoreRequest& request,
                      BrevityTable& brevity, std::int64_t b, std::int64_t k) {
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = cut_length(problem, tokens, problem.stated_length(b, k));
    const std::int64_t row = b * problem.samples + k;
    const int max_order = problem.max_order;
    if (request.output == BleuOutput::sentence) {
        std::int64_t last[kBleuMaxOrder] = {};
        walk_any_order(index, problem, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            if (prefix == length) std::copy(matches, matches + max_order, last);
        });
        const double score =
            length == 0 ? 0.0 : bleu_prefix_score(last, length, max_order, brevity(length), request.scoring);
        static_cast<Out*>(request.out)[row] = static_cast<Out>(score);
        return;
    }
    Out* out = static_cast<Out*>(request.out) + row * problem.length;
    if (request.output == BleuOutput::prefix) {
        walk_any_order(index, problem, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            out[prefix - 1] =
                static_cast<Out>(bleu_prefix_score(matches, prefix, max_order, brevity(prefix), request.scoring));
        });
    } else {
        const double scale =
            request.scale_by_reference_length ? bleu_mean_length(index.lengths, problem.reference_count) : 1.0;
        double before = 0.0;
        walk_any_order(index, problem, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            const double payoff = scale * bleu_prefix_score(matches, prefix, max_order, brevity(prefix), request.scoring);
            out[prefix - 1] = static_cast<Out>(payoff - before);
            before = payoff;
        });
    }
    std::fill(out + length, out + problem.length, Out(0));
}

void count_hypothesis(const NgramIndex& index, const BleuProblem& problem, const BleuCountRequest& request, std::int64_t b,
                      std::int64_t k) {
    const std::int64_t* tokens = problem.hypothesis(b, k);
    const std::int32_t length = cut_length(problem, tokens, problem.stated_length(b, k));
    const std::int64_t row = b * problem.samples + k;
    const int max_order = problem.max_order, width = 2 * max_order + 2;
    const auto closest = [&](std::int32_t prefix) {
        return bleu_closest_length(index.lengths, problem.reference_count, prefix);
    };
    if (!request.every_prefix) {
        std::int64_t last[kBleuMaxOrder] = {};
        walk_any_order(index, problem, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
            if (prefix == length) std::copy(matches, matches + max_order, last);
        });
        bleu_write_counts(request.out + row * width, last, length, max_order, closest(length));
        return;
    }
    std::int64_t* out = request.out + row * problem.length * width;
    walk_any_order(index, problem, tokens, length, [&](std::int32_t prefix, const std::int64_t* matches) {
        bleu_write_counts(out + (prefix - 1) * width, matches, prefix, max_order, closest(prefix));
    });
    std::fill(out + static_cast<std::int64_t>(length) * width, out + static_cast<std::int64_t>(problem.length) * width, 0);
}

std::int64_t slot_bytes(const BleuProblem& problem) {
    return NgramIndexLayout(problem).bytes() + (8 * static_cast<std::int64_t>(problem.length) + 63) / 64 * 64;
}

// Calls per_hypothesis(index, brevity, b, k) for every hypothesis.
template <class PerHypothesis>
void for_each_hypothesis(const BleuProblem& problem, void* workspace, int threads, const PerHypothesis& per_hypothesis) {
    if (problem.sources == 0 || problem.samples == 0) return;
    const NgramIndexLayout layout(problem);
    const std::int64_t wanted = (threads + problem.sources - 1) / problem.sources;
    const std::int64_t shares = std::max<std::int64_t>(1, std::min(wanted, problem.samples));
    const std::int64_t units = problem.sources * shares;
    const std::int64_t reference_steps = std::int64_t(problem.reference_count) * problem.reference_length;
    const std::int64_t steps =
        problem.max_order * (problem.sources * problem.samples * problem.length + units * reference_steps);
    const int workers = static_cast<int>(std::min({std::int64_t(std::max(threads, 1)), units, steps / kSerialSteps + 1}));

    std::atomic<std::int64_t> next_unit{0};
    const auto work = [&](int worker) {
        char* memory = static_cast<char*>(workspace) + worker * slot_bytes(problem);
        for (std::int64_t unit = next_unit.fetch_add(1); unit < units; unit = next_unit.fetch_add(1)) {
            const std::int64_t b = unit / shares, share = unit % shares;
            const NgramIndex index = layout.place(memory, problem.source_references(b));
            build_ngram_index(index, problem, b, OneLane());
            BrevityTable brevity(reinterpret_cast<double*>(memory + layout.bytes()), index, problem.reference_count);
            for (std::int64_t k = problem.samples * share / shares; k < problem.samples * (share + 1) / shares; ++k)
                per_hypothesis(index, brevity, b, k);
        }
    };
    if (workers == 1)
        work(0);
    else
        run_threads(workers, work);
}

}  // namespace

std::int64_t bleu_workspace(const BleuProblem& problem, int threads) {
    return std::max(threads, 1) * slot_bytes(problem);
}

void bleu_scores(const BleuProblem& problem, const BleuScoreRequest& request, void* workspace, int threads) {
    for_each_hypothesis(problem, workspace, threads,
                        [&](const NgramIndex& index, BrevityTable& brevity, std::int64_t b, std::int64_t k) {
                            if (request.float64)
                                score_hypothesis<double>(index, problem, request, brevity, b, k);
                            else
                                score_hypothesis<float>(index, problem, request, brevity, b, k);
                        });
}

void bleu_counts(const BleuProblem& problem, const BleuCountRequest& request, void* workspace, int threads) {
    for_each_hypothesis(problem, workspace, threads,
                        [&](const NgramIndex& index, BrevityTable&, std::int64_t b, std::int64_t k) {
                            count_hypothesis(index, problem, request, b, k);
                        });
}

}  // namespace softbellman::cpu
