// Random edits of references and the exact log density of what comes out: the description of a batch, for host and device.
// edit_draws.h draws a sequence, edit_density.h scores one; edits.cpp and edits.cu walk the batch.
//
// Notation: B sources, K samples per source, L and W the padded lengths of references and edited sequences. A token is
// touchable when it is an id of the vocabulary and not special; n counts the touchable tokens of a reference. Substitutes
// come from the alphabet, the A ids of the vocabulary that are not special, by rank.
//
// Random numbers are a pure function of (seed, offset, row b K + k, position, change or step). A rank is the upper half of a
// 128-bit product, a decision compares 62 bits with an integer threshold from the host: with A <= 2^24 and rows of up to
// 4,096 tokens (the rounding of the tables grows with them) no probability is off by more than 2^-40.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/device.h"
#include "core/philox.h"
#include "payoffs/token_batch.h"

namespace softbellman {

constexpr int kEditSpecials = 16;      // special ids
constexpr int kEditLargestOrder = 16;  // of the n-gram proposal
constexpr int kEditOperations = 64;    // of the edit proposal
constexpr std::int32_t kEditLargestLength = 1 << 20;
constexpr std::int64_t kEditLargestVocabulary = 1 << 24;
constexpr int kEditDecisionBits = 62;  // of a threshold
constexpr int kEditTieBits = 54;       // of those, looked at where the upper eight decide nothing
constexpr std::uint32_t kEditDecisions = 1u << 30, kEditTies = 1u << 31;  // random blocks beyond all positions and steps

enum class EditProposal : int { ngram = 0, corrupt = 1, hamming = 2, edit = 3 };

struct EditDraw {
    std::uint64_t first, second;
};

SB_INLINE std::uint64_t multiply_high64(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
    return __umul64hi(a, b);
#else
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

struct EditProblem {
    TokenMatrix references;                  // [B, 1, L]
    std::int64_t* edited = nullptr;          // [B, K, W] dense
    std::int64_t samples = 0;                // K
    std::int32_t width = 0;                  // W
    std::int64_t* edited_lengths = nullptr;  // [B, K] dense; null when given and all W
    double* log_density = nullptr;           // [B, K] dense
    bool draw = false;                       // else `edited` and `edited_lengths` are given and only scored
    std::int64_t pad = 0;                    // behind the length
    std::uint64_t seed = 0, offset = 0;

    EditProposal proposal = EditProposal::ngram;
    std::int64_t vocabulary = 1;
    std::int64_t special[kEditSpecials] = {};  // ascending, each inside the vocabulary
    int special_count = 0;
    std::int32_t max_order = 1;                                  // ngram
    double rate = 0.0;                                           // corrupt
    std::int32_t max_distance = 0;                               // hamming, edit
    double temperature = 1.0;                                    // hamming, edit
    double substitution = 1.0, insertion = 1.0, deletion = 1.0;  // edit: weights, see finish()
    const std::int64_t* thresholds = nullptr;                    // hamming, edit: see EditTables
    const double* log_normalizers = nullptr;                     // hamming, edit: log Z_n, [L + 1]
    int scale_exponent = 0;                                      // edit
    bool keep_gold = false;                                      // sample 0 is the reference; the density is the mixture's

    // What follows from these.
    std::int64_t alphabet = 1;                         // A
    std::int64_t largest_special = -1;                 // -1 without any
    double inverse_power[kEditLargestOrder + 1] = {};  // ngram: A^-t
    std::uint64_t rate_threshold = 0;                  // corrupt
    double log_change = 0.0, log_stay = 0.0;           // corrupt: log(rate / (A-1)), log(1 - rate)
    double log_gold = 0.0, log_rest = 0.0;             // log(1/K), log((K-1)/K)

    template <class Fields>
    void describe(Fields& fields) {
        fields.tokens("tokens", references, kEditLargestLength);
        fields.lengths("lengths", references);
        fields.rule(references.rows <= 1, "tokens must be one reference per source");
        fields.integer("samples", samples, 0, (std::int64_t(1) << 31) - 1);
        fields.integer("width", width, 0, kEditLargestLength + kEditOperations);
        const double tokens = static_cast<double>(references.sources) * static_cast<double>(samples) * (width + 1.0);
        fields.rule(tokens < 0x1p60, "samples must be fewer: edited must be below 2**60 tokens");
        const std::int64_t rows = references.sources * samples;
        fields.array("edited", edited, rows * width);
        fields.integer("draw", draw, 0, 1);
        fields.optional_array("edited_lengths", edited_lengths, rows);
        if (!draw) fields.within("edited_lengths", edited_lengths, rows, width);
        fields.rule(!draw || edited_lengths != nullptr, "edited_lengths must be given where edits are drawn");
        fields.array("log_density", log_density, rows);
        fields.integer("pad_id", pad, INT64_MIN, INT64_MAX);
        fields.counter("seed", seed);
        fields.counter("offset", offset);
        describe_proposal(fields);
        finish();
    }

    template <class Fields>
    void describe_proposal(Fields& fields) {
        fields.integer("proposal", proposal, 0, 3);
        fields.integer("vocabulary", vocabulary, 1, kEditLargestVocabulary);
        fields.integers("special_ids", special, special_count);
        fields.integer("max_order", max_order, 1, kEditLargestOrder);
        fields.not_negative("rate", rate);
        fields.positive("temperature", temperature);
        const bool edit = proposal == EditProposal::edit, tables = edit || proposal == EditProposal::hamming;
        fields.integer("max_distance", max_distance, 0, edit ? kEditOperations : kEditLargestLength);
        fields.not_negative("substitution", substitution);
        fields.not_negative("insertion", insertion);
        fields.not_negative("deletion", deletion);
        const std::int64_t lengths = references.length + 1, cells = lengths * (max_distance + 1);
        fields.optional_array("thresholds", thresholds, edit ? 4 * cells : cells);
        fields.optional_array("log_normalizers", log_normalizers, lengths);
        fields.integer("scale_exponent", scale_exponent, -(1 << 20), 1 << 20);
        fields.integer("keep_gold", keep_gold, 0, 1);
        fields.rule(tables == (thresholds != nullptr) && tables == (log_normalizers != nullptr),
                    "thresholds and log_normalizers must be given for distances alone");
        fields.rule(rate <= 1.0, "rate must be at most 1");
        fields.rule(!draw || width == references.length + (edit ? max_distance : 0),
                    "width must be that of tokens, and max_distance more for the edit proposal");
        bool ascending = true;
        for (int s = 0; s < special_count; ++s)
            ascending = ascending && special[s] < vocabulary && special[s] > (s > 0 ? special[s - 1] : -1);
        fields.rule(ascending, "special_ids must be ids below the vocabulary, ascending and different");
    }

    // Fills what follows from the fields; the weights of the operations become weights times token probabilities times
    // 2^scale_exponent.
    void finish() {
        largest_special = special_count > 0 ? special[special_count - 1] : -1;
        alphabet = vocabulary - special_count;
        const auto any = static_cast<double>(alphabet), others = static_cast<double>(alphabet - 1);
        for (int t = 0; proposal == EditProposal::ngram && t <= kEditLargestOrder; ++t)
            inverse_power[t] = 1.0 / std::pow(any, t);
        const bool replaceable = alphabet > 1;  // there is another token
        const double share = replaceable ? rate : 0.0;
        rate_threshold = static_cast<std::uint64_t>(std::ldexp(share, kEditDecisionBits));
        log_change = replaceable ? std::log(share / others) : -INFINITY;
        log_stay = std::log1p(-share);
        substitution = replaceable ? std::ldexp(substitution / others, scale_exponent) : 0.0;
        insertion = alphabet > 0 ? std::ldexp(insertion / any, scale_exponent) : 0.0;
        deletion = std::ldexp(deletion, scale_exponent);
        log_gold = -std::log(static_cast<double>(samples));
        log_rest = std::log1p(-1.0 / static_cast<double>(samples));
    }

    SB_HD std::int32_t length() const { return references.length; }  // L
    SB_HD std::int64_t rows() const { return references.sources * samples; }
    SB_HD const std::int64_t* reference(std::int64_t b) const { return references.row(b, 0); }
    SB_HD std::int32_t reference_length(std::int64_t b) const { return references.stated_length(b, 0); }
    SB_HD std::int32_t given_length(std::int64_t row) const {
        return edited_lengths ? TokenMatrix::clamp(edited_lengths[row], width) : width;
    }

    SB_INLINE bool touchable(std::int64_t token) const {
        if (token < 0 || token >= vocabulary) return false;
        if (token > largest_special) return true;  // the usual case: special ids are the first ones
        for (int s = 0; s < special_count; ++s)
            if (special[s] == token) return false;
        return true;
    }
    SB_INLINE std::int64_t token_of_rank(std::int64_t rank) const {
        for (int s = 0; s < special_count; ++s) rank += rank >= special[s];
        return rank;
    }
    SB_INLINE std::int64_t rank_of(std::int64_t token) const {
        std::int64_t rank = token;
        for (int s = 0; s < special_count; ++s) rank -= special[s] < token;
        return rank;
    }
    SB_INLINE std::int64_t any_token(std::uint64_t random) const {
        return token_of_rank(static_cast<std::int64_t>(multiply_high64(random, static_cast<std::uint64_t>(alphabet))));
    }
    SB_INLINE std::int64_t other_token(std::uint64_t random, std::int64_t token) const {
        auto rank = static_cast<std::int64_t>(multiply_high64(random, static_cast<std::uint64_t>(alphabet - 1)));
        rank += rank >= rank_of(token);
        return token_of_rank(rank);
    }

    SB_INLINE EditDraw random(std::uint32_t position, std::int64_t row) const {
        const PhiloxBlock block = philox_columns(position, static_cast<std::uint64_t>(row), seed, offset);
        return {static_cast<std::uint64_t>(block.word[1]) << 32 | block.word[0],
                static_cast<std::uint64_t>(block.word[3]) << 32 | block.word[2]};
    }
    SB_INLINE static bool below(std::uint64_t random, std::uint64_t threshold) {
        return random >> (64 - kEditDecisionBits) < threshold;
    }

    // Where the walk through a script with m touchable tokens and `left` operations to come finds its thresholds: an
    // insertion below the first, else the token is kept below the second, replaced below the third, else deleted.
    SB_INLINE const std::int64_t* script_thresholds(std::int32_t m, std::int32_t left) const {
        const std::int64_t columns = max_distance + 1;
        return thresholds + (length() + 1) * columns + 3 * (m * columns + left);
    }
};

// Doubles of scratch that the density of the edit proposal needs for a row.
SB_HD inline std::int64_t edit_cells(std::int32_t max_distance) {
    return std::int64_t(max_distance + 3) * (max_distance + 2);
}

// Tables of the distances on the host, for references of up to `length` tokens.
struct EditTables {
    std::int32_t length = 0, max_distance = 0;
    std::int64_t alphabet = 0;
    double temperature = 1.0;
    double substitution = 0.0, insertion = 0.0, deletion = 0.0;  // weights; the edit proposal's
    std::int64_t* thresholds = nullptr;  // [length + 1, max_distance + 1]: P(distance <= d) of a row with n touchable
                                         // tokens, times 2^62; of the edit proposal P(operations <= e), followed by the
                                         // thresholds of the walk, [length + 1, max_distance + 1, 3]
    double* log_normalizers = nullptr;   // [length + 1]: log Z_n
    bool edit = false;                   // which proposal

    template <class Fields>
    void describe(Fields& fields) {
        fields.integer("edit", edit, 0, 1);
        fields.integer("length", length, 0, kEditLargestLength);
        fields.integer("max_distance", max_distance, 0, edit ? kEditOperations : kEditLargestLength);
        fields.integer("alphabet", alphabet, 0, kEditLargestVocabulary);
        fields.positive("temperature", temperature);
        fields.not_negative("substitution", substitution);
        fields.not_negative("insertion", insertion);
        fields.not_negative("deletion", deletion);
        const std::int64_t cells = (std::int64_t(length) + 1) * (max_distance + 1);
        fields.array("thresholds", thresholds, edit ? 4 * cells : cells);
        fields.array("log_normalizers", log_normalizers, std::int64_t(length) + 1);
    }
};

namespace cpu {
// Throws where a reference token that counts lies outside the vocabulary; nothing is then written.
void edit_rows(const EditProblem& problem, int threads);

// Returns the power of two by which the density of the edit proposal scales each operation, 0 for hamming; throws where none
// keeps the numbers within float64.
int fill_edit_tables(const EditTables& tables);

double exact_log_of(double x);
double exact_exp_of(double x);
}  // namespace cpu
namespace cuda {
// A token outside the vocabulary stays as it is: looking for it first would wait for the device.
void edit_rows(const EditProblem& problem, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
