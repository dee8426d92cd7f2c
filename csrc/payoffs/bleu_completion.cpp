// Completion values of BLEU on the CPU.
//
// A unit of work is a source, or a share of its hypotheses when there are fewer sources than threads. A thread builds the
// index of the source's references and walks each hypothesis once. In each state it takes every reference from its end on;
// for a suffix it forms two scores, and each different token of the references takes one of them, or a score of its own
// where it forms a bigram. O(T S (U + N)) steps a hypothesis for S suffixes and U different tokens; values are written once.
#include "payoffs/bleu_completion.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "payoffs/bleu_walk.h"
#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

// One thread's piece of the workspace.
struct SlotLayout {
    SuffixIndexLayout suffixes;
    std::int64_t brevity_count, token_slots, ending_count;

    explicit SlotLayout(const NgramBatch& batch)
        : suffixes(batch),
          brevity_count(std::int64_t{batch.length()} + batch.reference_length() + 1),
          token_slots(suffixes.token_slots()),
          ending_count(suffixes.places * batch.max_order) {}
    std::int64_t bytes() const {
        return suffixes.bytes() + (8 * (brevity_count + token_slots) + 4 * ending_count + 63) / 64 * 64;
    }
};

// The values of one state after another.
class StateValues {
 public:
    StateValues(const SuffixValues& values, std::int64_t b, char* memory, const SlotLayout& layout)
        : values_(values),
          index_(layout.suffixes.place(memory, values.references.row(b, 0))),
          best_(reinterpret_cast<double*>(memory + layout.suffixes.bytes()) + layout.brevity_count),
          ending_(reinterpret_cast<std::int32_t*>(best_ + layout.token_slots)),
          brevity_(best_ - layout.brevity_count, index_, values.reference_count(), values),
          source_(b) {
        build_suffix_index(index_, values, b, OneLane());
        scale_ = values.scaled ? mean_length(index_.lengths, values.reference_count()) : 1.0;
    }
    const SuffixIndex& index() const { return index_; }

    // `prefix`: of `length` tokens, whose n-grams the index's counters hold.
    template <class Out, class Prefix>
    void write(const Prefix& prefix, std::int32_t length, Out* out) {
        const double now =
            length == 0 ? 0.0 : bleu_prefix_score(prefix.matches, length, values_.max_order, brevity_(length), values_);
        for (std::int32_t u = 0; u < *index_.token_count; ++u) {
            best_[index_.tokens[u]] = 0.0;  // no score is below
            nodes_ending_with(index_.tokens[u], index_, prefix.nodes, values_.max_order, ending(u));
        }
        double elsewhere = 0.0;
        for (std::int32_t r = 0; r < values_.reference_count(); ++r)
            elsewhere = std::max(elsewhere, complete(r, prefix.matches, length));
        Out* place = out + 1;
        out[0] = static_cast<Out>(completion_value(scale_, elsewhere, now));
        for (std::int32_t r = 0; r < values_.reference_count(); ++r) {
            const std::int64_t* tokens = values_.references.row(source_, r);
            for (std::int32_t j = 0; j < values_.reference_length(); ++j, ++place) {
                const bool matches = j < index_.lengths[r] && !values_.is_unmatched(tokens[j]);
                *place =
                    matches ? static_cast<Out>(completion_value(scale_, best_[index_.find_token(tokens[j])], now)) : out[0];
            }
        }
    }

 private:
    std::int32_t* ending(std::int32_t u) const { return ending_ + std::int64_t{u} * values_.max_order; }

    // Puts the scores with every suffix of reference r into best_; returns the best score of a token of no reference.
    double complete(std::int32_t r, const std::int64_t* prefix_matches, std::int32_t length) {
        const int max_order = values_.max_order;
        const std::int32_t whole = index_.lengths[r];
        std::int64_t matches[kLargestOrder];
        std::copy(prefix_matches, prefix_matches + max_order, matches);
        double elsewhere = 0.0;
        for (std::int32_t j = whole; j >= 0; --j) {
            for (int n = 0; j < whole && n < max_order; ++n) {
                const std::int32_t node = index_.start(r, n)[j];
                if (node == kNoNode) break;
                matches[n] += index_.count[node]++ < index_.clip[node];
            }
            const std::int32_t all = length + 1 + whole - j;
            const double brevity = brevity_(all);
            const SuffixScores alone = suffix_scores(matches, all, brevity, values_);
            elsewhere = std::max(elsewhere, alone.missed);
            for (std::int32_t u = 0; u < *index_.token_count; ++u) {
                double& best = best_[index_.tokens[u]];
                best = std::max(best, candidate_score(ending(u), index_, index_.count, index_.start(r, 0) + j, whole - j,
                                                      matches, alone, all, brevity, values_));
            }
        }
        for (int n = 0; n < max_order; ++n) {
            for (std::int32_t j = 0; j < whole; ++j) {
                const std::int32_t node = index_.start(r, n)[j];
                if (node != kNoNode) --index_.count[node];
            }
        }
        return elsewhere;
    }

    const SuffixValues& values_;
    SuffixIndex index_;
    double* best_;          // by token node
    std::int32_t* ending_;  // [U, max_order]
    BrevityTable brevity_;
    std::int64_t source_;
    double scale_ = 1.0;
};

template <int kOrder, class Out>
void write_hypothesis(StateValues& states, const SuffixValues& values, std::int64_t b, std::int64_t k) {
    const std::int64_t* tokens = values.hypotheses.row(b, k);
    const std::int32_t stated = values.hypotheses.stated_length(b, k);
    const std::int32_t length = cut_length(values, values.hypotheses, b, k);
    const std::int64_t width = 1 + values.places();
    Out* out = static_cast<Out*>(values.out) + (b * values.samples() + k) * values.length() * width;
    PrefixMatches<kOrder> prefix;
    std::int32_t t = 0;
    for (; t < stated && t <= length; ++t) {  // the state in which the end itself is chosen is one, too
        states.write(prefix, t, out + t * width);
        if (t < length) prefix.take(states.index(), values, tokens[t]);
    }
    std::fill(out + t * width, out + values.length() * width, Out(0));
    std::fill(states.index().count, states.index().count + states.index().node_count, 0);
}

template <class Out>
void write_hypothesis_of_any_order(StateValues& states, const SuffixValues& values, std::int64_t b, std::int64_t k) {
    if (values.max_order == 4)
        write_hypothesis<4, Out>(states, values, b, k);
    else
        write_hypothesis<0, Out>(states, values, b, k);
}

// Ids that no vocabulary has would be values of no token.
void refuse_invalid_references(const SuffixValues& values) {
    for (std::int64_t b = 0; b < values.sources() && values.samples() > 0; ++b) {
        for (std::int32_t r = 0; r < values.reference_count(); ++r) {
            const std::int64_t* tokens = values.references.row(b, r);
            const std::int32_t length = cut_length(values, values.references, b, r);
            for (std::int32_t j = 0; j < length; ++j) {
                if (tokens[j] >= 0 && tokens[j] < values.vocabulary) continue;
                throw std::invalid_argument("references must be ids in [0, " + std::to_string(values.vocabulary) +
                                            "), got " + std::to_string(tokens[j]) + ".");
            }
        }
    }
}

// How many threads the candidates are worth.
std::int64_t useful_threads(const SuffixValues& values) {
    constexpr double kSerialCandidates = 1 << 12;  // below, a second thread costs more than it brings
    const double suffixes = static_cast<double>(values.places() + values.references.rows);
    const double candidates = static_cast<double>(values.states()) * suffixes * suffixes;
    return static_cast<std::int64_t>(std::min(candidates / kSerialCandidates, 1e6)) + 1;
}

}  // namespace

std::int64_t suffix_workspace(const NgramBatch& batch, int threads) {
    return std::max(threads, 1) * SlotLayout(batch).bytes();
}

void suffix_values(const SuffixValues& values, int threads) {
    values.workspace.check(suffix_workspace(values, threads));
    refuse_invalid_references(values);
    const SlotLayout layout(values);
    const auto write_share = [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
        StateValues states(values, b, static_cast<char*>(values.workspace.memory) + worker * layout.bytes(), layout);
        for (std::int64_t k = first; k < last; ++k) {
            if (values.float64)
                write_hypothesis_of_any_order<double>(states, values, b, k);
            else
                write_hypothesis_of_any_order<float>(states, values, b, k);
        }
    };
    for_each_source_share(values, threads, useful_threads(values), write_share);
}

}  // namespace softbellman::cpu
