// What every payoff reads: a batch of hypotheses and references; and what BLEU, CIDEr-D and ROUGE-L write about it.
//
// Notation: B sources, K hypotheses per source, R references per source, T and L their padded lengths. A sequence is its
// first `length` tokens, cut before the first `eos`; a reference of length 0 is absent. An n-gram that holds `unmatched`
// counts in the totals and never matches.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/exact_double.h"
#include "core/portability.h"

namespace softbellman {

constexpr int kLargestOrder = 8;
constexpr int kMostSpecialTokens = 16;
constexpr std::int64_t kMostReferenceTokens = std::int64_t(1) << 29, kMostReferenceNgrams = std::int64_t(1) << 28;

// Token ids [sources, rows, length] of unit token stride, and how many of each row count.
struct TokenMatrix {
    const std::int64_t* tokens = nullptr;
    std::int64_t source_stride = 0, row_stride = 0;
    std::int64_t sources = 0, rows = 0;
    std::int32_t length = 0;
    const std::int64_t* lengths = nullptr;  // [sources, rows] dense, or null: all `length`

    SB_HD std::int64_t count() const { return sources * rows; }
    SB_HD const std::int64_t* row(std::int64_t source, std::int64_t row) const {
        return tokens + source * source_stride + row * row_stride;
    }
    // As stated, before the cut at eos; clamped, so that a wrong length never reads outside its row.
    SB_HD std::int32_t stated_length(std::int64_t source, std::int64_t row) const {
        return lengths ? clamp(lengths[source * rows + row], length) : length;
    }
    SB_HD static std::int32_t clamp(std::int64_t stated, std::int32_t limit) {
        return stated < 0 ? 0 : stated > limit ? limit : static_cast<std::int32_t>(stated);
    }
};

// The ids that mean something to every payoff.
struct TokenIds {
    bool has_eos = false, has_unmatched = false;
    std::int64_t eos = 0, unmatched = 0;

    SB_HD bool is_unmatched(std::int64_t token) const { return has_unmatched && token == unmatched; }

    template <class Fields>
    void describe(Fields& fields) {
        fields.optional_id("eos_id", has_eos, eos);
        fields.optional_id("unmatched_id", has_unmatched, unmatched);
    }
};

struct TokenBatch : TokenIds {
    TokenMatrix hypotheses, references;  // [B, K, T] and [B, R, L]

    SB_HD std::int64_t sources() const { return hypotheses.sources; }
    SB_HD std::int64_t samples() const { return hypotheses.rows; }
    SB_HD std::int32_t length() const { return hypotheses.length; }
    SB_HD std::int32_t reference_count() const { return static_cast<std::int32_t>(references.rows); }
    SB_HD std::int32_t reference_length() const { return references.length; }

    template <class Fields>
    void describe(Fields& fields) {
        fields.tokens("hypotheses", hypotheses);
        fields.lengths("hypothesis_lengths", hypotheses);
        fields.tokens("references", references);
        fields.lengths("reference_lengths", references);
        TokenIds::describe(fields);
        fields.rule(hypotheses.sources == references.sources, "hypotheses and references must have as many sources");
        fields.rule(references.rows >= 1 || references.sources == 0, "references must hold at least one per source");
        fields.rule(references.rows * references.length <= kMostReferenceTokens && references.rows <= kMostReferenceTokens,
                    "references must have at most 2**29 tokens per source");
        // A workspace has a few bytes for each pair of tokens at most, and their number has to fit into 64 bits.
        const double pairs = (static_cast<double>(hypotheses.count()) + 1) * (hypotheses.length + 1.0) *
                             (static_cast<double>(references.rows) + 1) * (references.length + 1.0);
        fields.rule(pairs < 0x1p52, "hypotheses times the references of a source must be below 2**52 tokens");
    }
};

struct NgramBatch : TokenBatch {
    std::int32_t max_order = 1;  // longest n-gram

    template <class Fields>
    void describe(Fields& fields) {
        TokenBatch::describe(fields);
        fields.integer("max_order", max_order, 1, kLargestOrder);
        fields.rule(references.rows * references.length * max_order <= kMostReferenceNgrams,
                    "references must have at most 2**28 n-grams per source");
    }
};

// Which ids below the vocabulary a completion may hold: all but the special ones.
struct ProducedTokens {
    std::int64_t vocabulary = 1;
    std::int64_t special_count = 0;
    std::int64_t specials[kMostSpecialTokens] = {};  // never produced

    template <class Fields>
    void describe(Fields& fields, const TokenIds& ids) {
        fields.integer("vocabulary", vocabulary, 1, std::int64_t(1) << 30);
        fields.integers("special_ids", specials, special_count);
        bool inside = ids.has_eos && ids.eos >= 0 && ids.eos < vocabulary;
        for (std::int64_t i = 0; i < special_count; ++i) inside = inside && specials[i] >= 0 && specials[i] < vocabulary;
        fields.rule(inside, "special_ids and eos must be ids below the vocabulary");
    }
    SB_HD bool produced(std::int64_t token) const {
        if (token < 0 || token >= vocabulary) return false;
        for (std::int64_t i = 0; i < special_count; ++i)
            if (specials[i] == token) return false;
        return true;
    }
};

// Memory that the caller lends: at least the bytes that the function of the payoff asks for, 16-byte aligned.
struct Workspace {
    void* memory = nullptr;
    std::int64_t bytes = 0;

    template <class Fields>
    void describe(Fields& fields) {
        fields.optional_bytes("workspace", memory, bytes);
    }
    void check(std::int64_t needed) const {
        if (bytes < needed) throw std::invalid_argument("workspace must have " + std::to_string(needed) + " bytes.");
    }
};

enum class PayoffOutput : int { prefix = 0, sentence = 1, reward = 2 };

struct PayoffResult {
    PayoffOutput output = PayoffOutput::prefix;
    bool scaled = false;   // rewards only: times the mean length of the references
    bool float64 = false;  // type of `out`, else float32
    void* out = nullptr;   // [B, K, T], sentence: [B, K]; every element is written
    Workspace workspace;

    template <class Fields>
    void describe(Fields& fields, const TokenBatch& batch) {
        fields.integer("output", output, 0, 2);
        fields.integer("scaled", scaled, 0, 1);
        fields.integer("float64", float64, 0, 1);
        const std::int64_t each = output == PayoffOutput::sentence ? 1 : batch.length();
        fields.untyped_array("out", out, batch.hypotheses.count() * each, float64 ? kFloat64 : kFloat32);
        workspace.describe(fields);
    }
};

// What a payoff in [0, 1] is multiplied by: the mean length of the references that are present.
SB_HD inline double mean_length(const std::int32_t* lengths, std::int32_t count) {
    std::int64_t sum = 0, present = 0;
    for (std::int32_t r = 0; r < count; ++r) {
        sum += lengths[r];
        present += lengths[r] != 0;
    }
    return present == 0 ? 0.0 : static_cast<double>(sum) / static_cast<double>(present);
}

// The factor of a payoff under `result`. Products with it, and the differences of rewards, are rounded once each (exact_*),
// so that where a payoff has the same bits on every processor its rewards have them, too.
SB_HD inline double payoff_scale(const TokenBatch& batch, const PayoffResult& result, const std::int32_t* lengths) {
    return result.output == PayoffOutput::reward && result.scaled ? mean_length(lengths, batch.reference_count()) : 1.0;
}

}  // namespace softbellman
