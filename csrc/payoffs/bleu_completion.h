// The best BLEU within reach of a prefix by a suffix of a reference: what is asked, the suffixes of one source, and the
// score of one candidate, for host and device.
//
// Notation of token_batch.h; y a prefix of t tokens, w the next token, z a suffix of a reference, the empty one included:
//
//     Q(y, w) = max_z R(y w z) - R(y)
//
// Clipped matches do not add up: an n-gram of the suffix may stand in the prefix, too, and both share one clip. So counters
// that hold the n-grams of y take those of a reference from its end on, and each is a match while its counter is below the
// clip: the matches of every suffix of that reference in one pass. What is left are the n-grams that hold w, n of each order
// at most, with fewer than n tokens to either side. They are found in the index, and each is a match while its counter and
// its equals before it are below the clip. A sum over n-grams of min(count, clip) is the same in any order of counting.
//
// Most candidates have no n-gram that holds w but w itself. Their scores are two numbers for each suffix.
#pragma once
#include <cstdint>

#include "payoffs/bleu.h"
#include "payoffs/ngram_index.h"

namespace softbellman {

struct SuffixValues : NgramBatch, BleuScoring, ProducedTokens {
    bool scaled = false;   // times the mean length of the references
    bool float64 = false;  // type of `out`, else float32
    // [B, K, T, 1 + R * L], every element is written: the value of tokens that no reference holds, then those of the
    // references' tokens, place by place; behind a reference's length the first once more. Zeros behind the end.
    void* out = nullptr;
    Workspace workspace;

    SB_HD std::int64_t places() const { return references.rows * references.length; }
    SB_HD std::int64_t states() const { return hypotheses.count() * length(); }

    template <class Fields>
    void describe(Fields& fields) {
        NgramBatch::describe(fields);
        BleuScoring::describe(fields);
        ProducedTokens::describe(fields, *this);
        fields.integer("scaled", scaled, 0, 1);
        fields.integer("float64", float64, 0, 1);
        fields.rule(references.length <= kMostReferenceTokens - length(),
                    "hypotheses and references must have at most 2**29 tokens together");
        fields.untyped_array("out", out, states() * (1 + places()), float64 ? kFloat64 : kFloat32);
        workspace.describe(fields);
    }
};

// The index of one source, with what its suffixes are made of.
struct SuffixIndex : NgramIndex {
    std::int32_t row = 0, orders = 1;  // L and max_order
    std::int32_t* starts = nullptr;    // [R, max_order, L], see start()
    std::int32_t* tokens = nullptr;    // the different tokens of the references, nodes
    std::int32_t* token_count = nullptr;

    // Nodes of the n + 1 tokens of reference r that begin at each place; kNoNode where they match nothing, or hold a token
    // that cannot be produced: in a completion any other token stands there, and none is better.
    SB_HD std::int32_t* start(std::int32_t r, int n) const {
        return starts + (static_cast<std::int64_t>(r) * orders + n) * row;
    }
};

// Where the parts of a SuffixIndex lie in its piece of the workspace.
struct SuffixIndexLayout {
    NgramIndexLayout index;
    std::int64_t places;
    std::int32_t row;
    int orders;

    SB_HD explicit SuffixIndexLayout(const NgramBatch& batch)
        : index(batch),
          places(batch.references.rows * batch.references.length),
          row(batch.reference_length()),
          orders(batch.max_order) {}
    SB_HD std::int64_t bytes() const { return index.bytes() + (4 * ((orders + 1) * places + 1) + 63) / 64 * 64; }
    SB_HD std::int64_t token_slots() const { return std::int64_t(1) << index.token_bits; }
    SB_HD SuffixIndex place(void* memory, const std::int64_t* reference_tokens) const {
        SuffixIndex suffixes;
        static_cast<NgramIndex&>(suffixes) = index.place(memory, reference_tokens);
        suffixes.row = row;
        suffixes.orders = orders;
        suffixes.starts = reinterpret_cast<std::int32_t*>(static_cast<char*>(memory) + index.bytes());
        suffixes.tokens = suffixes.starts + orders * places;
        suffixes.token_count = suffixes.tokens + places;
        return suffixes;
    }
};

// Fills the index of source b. Group: as build_ngram_index wants it.
#ifdef __CUDACC__
#pragma nv_exec_check_disable
#endif
template <class Group>
SB_HD void build_suffix_index(const SuffixIndex& index, const SuffixValues& batch, std::int64_t b, const Group& group) {
    build_ngram_index(index, batch, b, group);
    for (std::int32_t r = 0; r < batch.reference_count(); ++r) {
        const std::int64_t* tokens = batch.references.row(b, r);
        const std::int32_t length = index.lengths[r];
        for (int n = 0; n < index.orders; ++n) {
            std::int32_t* level = index.start(r, n);
            for (std::int32_t j = group.lane; j < index.row; j += group.size) {
                std::int32_t node = kNoNode;
                if (n == 0) {
                    if (j < length && batch.produced(tokens[j]) && !batch.is_unmatched(tokens[j]))
                        node = index.find_token(tokens[j]);
                } else if (j + n < length) {
                    const std::int32_t parent = index.start(r, n - 1)[j], token = index.start(r, 0)[j + n];
                    if (parent != kNoNode && token != kNoNode) node = index.find_child(parent, token);
                }
                level[j] = node;
            }
            group.sync();
        }
    }
    if (group.lane == 0) *index.token_count = 0;
    group.sync();
    for (std::int32_t slot = group.lane; slot <= index.token_mask; slot += group.size)
        if (index.first[slot] != 0) index.tokens[group.add(index.token_count, 1)] = slot;
    group.sync();
}

// Scores of y w z where no longer n-gram than w itself holds w.
struct SuffixScores {
    double missed, matched;  // w is no match, w is one
};
SB_HD inline SuffixScores suffix_scores(const std::int64_t* matches, std::int32_t length, double brevity,
                                        const SuffixValues& values) {
    std::int64_t more[kLargestOrder];
    for (int n = 0; n < values.max_order; ++n) more[n] = matches[n] + (n == 0);
    return {bleu_prefix_score(matches, length, values.max_order, brevity, values),
            bleu_prefix_score(more, length, values.max_order, brevity, values)};
}

// ending[n]: the n tokens before w and w itself, from `before[n - 1]`, the n last tokens of y.
SB_HD inline void nodes_ending_with(std::int32_t token, const NgramIndex& index, const std::int32_t* before, int max_order,
                                    std::int32_t* ending) {
    ending[0] = token;
    for (int n = 1; n < max_order; ++n)
        ending[n] = token == kNoNode || before[n - 1] == kNoNode ? kNoNode : index.find_child(before[n - 1], token);
}

// Adds the matches of the n-grams that hold w: i tokens before it and n - i of the suffix, nodes `suffix`, behind.
SB_HD inline void add_matches_with(const std::int32_t* ending, const NgramIndex& index, const std::int32_t* counters,
                                   const std::int32_t* suffix, std::int32_t suffix_length, int max_order,
                                   std::int64_t* matches) {
    std::int32_t nodes[kLargestOrder];  // nodes[i]: of the present order, with i tokens before w
    for (int n = 0; n < max_order; ++n) {
        bool any = false;
        for (int i = 0; i <= n; ++i) {
            if (i == n)
                nodes[i] = ending[n];
            else if (nodes[i] != kNoNode)
                nodes[i] = n - i > suffix_length || suffix[n - i - 1] == kNoNode
                               ? kNoNode
                               : index.find_child(nodes[i], suffix[n - i - 1]);
            if (nodes[i] == kNoNode) continue;
            std::int32_t count = counters[nodes[i]];
            for (int k = 0; k < i; ++k) count += nodes[k] == nodes[i];
            matches[n] += count < index.clip[nodes[i]];
            any = true;
        }
        if (!any) return;  // no longer n-gram without the shorter one
    }
}

// The score of y w z. `counters` hold y and z, and `matches` are theirs; `length` is that of y w z.
SB_HD inline double candidate_score(const std::int32_t* ending, const NgramIndex& index, const std::int32_t* counters,
                                    const std::int32_t* suffix, std::int32_t suffix_length, const std::int64_t* matches,
                                    const SuffixScores& alone, std::int32_t length, double brevity,
                                    const SuffixValues& values) {
    const std::int32_t token = ending[0];
    const bool bigram = values.max_order > 1 && (ending[1] != kNoNode || (suffix_length > 0 && suffix[0] != kNoNode &&
                                                                          index.find_child(token, suffix[0]) != kNoNode));
    if (!bigram) return counters[token] < index.clip[token] ? alone.matched : alone.missed;
    std::int64_t all[kLargestOrder];
    for (int n = 0; n < values.max_order; ++n) all[n] = matches[n];
    add_matches_with(ending, index, counters, suffix, suffix_length, values.max_order, all);
    return bleu_prefix_score(all, length, values.max_order, brevity, values);
}

// R(y w z) - R(y), each product and the difference rounded once.
SB_HD inline double completion_value(double scale, double best, double now) {
    return exact_add(exact_multiply(scale, best), -exact_multiply(scale, now));
}

namespace cpu {
std::int64_t suffix_workspace(const NgramBatch& batch, int threads);
void suffix_values(const SuffixValues& values, int threads);  // throws where a reference's id is not below V
}  // namespace cpu
namespace cuda {
std::int64_t suffix_workspace(const NgramBatch& batch);
// An id outside [0, V) counts as a token that cannot be produced: looking for it first would wait for the device.
void suffix_values(const SuffixValues& values, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
