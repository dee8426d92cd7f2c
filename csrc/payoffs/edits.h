// Random edits of references and the exact log density of what comes out: the description of a batch, for host and device.
// edit_draws.h draws a sequence, edit_density.h scores one; csrc/cpu/edits.cpp and csrc/cuda/edits.cu walk the batch.
//
// Notation: B sources, K samples per source, L and W the padded lengths of references and edited sequences. A token is
// touchable when it is an id of the vocabulary and not special; n counts the touchable tokens of a reference. Substitutes
// come from the alphabet, the A ids of the vocabulary that are not special, by rank.
//
// Random numbers are a pure function of (seed, offset, row b K + k, position, change or step). A rank is the upper half of a
// 128-bit product, a decision compares 62 bits with an integer threshold from the host: with A <= 2^24 and rows of up to
// 4,096 tokens (the rounding of the tables grows with them) no probability is off by more than 2^-40.
#pragma once
#include "core/philox.h"
#include "core/portability.h"

namespace softbellman {

constexpr int kEditSpecials = 16;      // special ids
constexpr int kEditLargestOrder = 16;  // of the n-gram proposal
constexpr int kEditOperations = 64;    // of the edit proposal
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
    const std::int64_t* tokens;  // [B, L], unit token stride
    std::int64_t row_stride;
    const std::int64_t* lengths;  // [B] dense, or null: all L
    std::int64_t sources, samples;
    std::int32_t length, width;  // L, W
    std::int64_t vocabulary, alphabet;
    std::int64_t special[kEditSpecials];  // ascending, each inside the vocabulary
    int special_count;
    std::int64_t largest_special;  // -1 without any
    std::uint64_t seed, offset;

    EditProposal proposal;
    std::int32_t max_order;                       // ngram
    double inverse_power[kEditLargestOrder + 1];  // ngram: A^-t
    std::uint64_t rate_threshold;                 // corrupt
    double log_change, log_stay;                  // corrupt: log(rate / (A-1)), log(1 - rate)
    std::int32_t max_distance;                    // hamming, edit
    double temperature;                           // hamming, edit
    const std::int64_t* thresholds;               // hamming, edit: see cpu::hamming_table and cpu::edit_table
    const double* log_normalizers;                // hamming, edit: log Z_n, [L + 1]
    double substitution, insertion, deletion;     // edit: weight times token probability, times 2^scale_exponent
    int scale_exponent;                           // edit
    bool keep_gold;                               // sample 0 is the reference; the density is the mixture's
    double log_gold, log_rest;                    // log(1/K), log((K-1)/K)

    bool draw;                     // else `edited` and `edited_lengths` are given and only scored
    std::int64_t pad;              // behind the length
    std::int64_t* edited;          // [B, K, W] dense
    std::int64_t* edited_lengths;  // [B, K] dense; null when given and all W
    double* log_density;           // [B, K] dense

    SB_HD const std::int64_t* reference(std::int64_t b) const { return tokens + b * row_stride; }
    SB_HD std::int32_t reference_length(std::int64_t b) const { return lengths ? clamp(lengths[b], length) : length; }
    SB_HD std::int32_t given_length(std::int64_t row) const {
        return edited_lengths ? clamp(edited_lengths[row], width) : width;
    }
    // A wrong length never reads outside its row.
    SB_HD static std::int32_t clamp(std::int64_t stated, std::int32_t limit) {
        return stated < 0 ? 0 : stated > limit ? limit : static_cast<std::int32_t>(stated);
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
        return thresholds + (length + 1) * columns + 3 * (m * columns + left);
    }
};

// Doubles of scratch that the density of the edit proposal needs for a row.
SB_HD inline std::int64_t edit_cells(std::int32_t max_distance) {
    return std::int64_t(max_distance + 3) * (max_distance + 2);
}

namespace cpu {
// The position b L + i of the first reference token that counts and lies outside the vocabulary, where nothing is then
// written; or -1.
std::int64_t edit_rows(const EditProblem& problem, int threads);

// P(distance <= d) of a row with n touchable tokens, times 2^62, [length + 1, columns], and log Z_n, [length + 1].
void hamming_table(std::int32_t length, std::int32_t columns, std::int64_t alphabet, double temperature,
                   std::int64_t* thresholds, double* log_normalizers);

// P(operations <= e) as above, [length + 1, max_distance + 1], followed by the thresholds of the walk, [length + 1,
// max_distance + 1, 3]. Returns the power of two by which the density scales each operation; throws where none keeps the
// numbers within float64.
int edit_table(std::int32_t length, std::int32_t max_distance, std::int64_t alphabet, double temperature,
               double substitution, double insertion, double deletion, std::int64_t* thresholds, double* log_normalizers);

double exact_log_of(double x);
double exact_exp_of(double x);
}  // namespace cpu
namespace cuda {
void edit_rows(const EditProblem& problem, int device, void* stream);
}  // namespace cuda

}  // namespace softbellman
