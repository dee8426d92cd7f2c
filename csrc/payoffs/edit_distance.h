// Edit (Levenshtein) distance of token sequences: the description of a batch, one step of the distance row, and what the
// optimal completion values of a state are made of, for host and device.
//
// Notation: B sources, K hypotheses per source, T and L padded lengths, V vocabulary. A sequence is its first `length`
// tokens, cut before the first `eos`. The row of a prefix y_<t holds row[j] = d(y_<t, y*_1..j) for j = 0..L.
//
// Values. With the payoff R(y) = -d(y, y*) and completions of tokens that can be produced, the cheapest completion of y_<t
// that aligns it with y*_1..j costs row[j] + owed[j], where owed[j] counts the tokens of y*_j+1..L that cannot be produced
// (each must be replaced or left out). So the best payoff still to come is gap = row[L] - min_j (row[j] + owed[j]). A next
// token keeps the minimum where it equals y*_j+1 for a minimal j, or where y*_j+1 cannot be produced (any token replaces
// it); all other tokens lose one. Ending now earns 0.
#pragma once
#include <cstdint>

#include "core/portability.h"

namespace softbellman {

constexpr int kMostSpecialTokens = 16;

struct EditDistanceProblem {
    const std::int64_t* hypotheses;  // [B, K, T], unit token stride
    std::int64_t hypothesis_source_stride, hypothesis_stride;
    const std::int64_t* hypothesis_lengths;  // [B, K] dense, or null: all T
    const std::int64_t* references;          // [B, L], unit token stride
    std::int64_t reference_stride;
    const std::int64_t* reference_lengths;  // [B] dense, or null: all L
    std::int64_t sources, samples;
    std::int32_t length, reference_length;  // T, L
    bool has_eos;
    std::int64_t eos;

    SB_HD std::int64_t hypothesis_count() const { return sources * samples; }
    SB_HD const std::int64_t* hypothesis(std::int64_t row) const {
        return hypotheses + row / samples * hypothesis_source_stride + row % samples * hypothesis_stride;
    }
    SB_HD const std::int64_t* reference(std::int64_t row) const { return references + row / samples * reference_stride; }

    // Lengths as stated, before the cut at eos; clamped, so that a wrong length never reads outside its row.
    SB_HD std::int32_t stated_length(std::int64_t row) const {
        return hypothesis_lengths ? clamp(hypothesis_lengths[row], length) : length;
    }
    SB_HD std::int32_t stated_reference_length(std::int64_t row) const {
        return reference_lengths ? clamp(reference_lengths[row / samples], reference_length) : reference_length;
    }
    SB_HD static std::int32_t clamp(std::int64_t stated, std::int32_t limit) {
        return stated < 0 ? 0 : stated > limit ? limit : static_cast<std::int32_t>(stated);
    }
};

// An entry of the next row but for its left neighbour: min(above + 1, diagonal + 1(tokens differ)).
SB_HD inline std::int32_t edit_without_left(std::int32_t above, std::int32_t diagonal, bool equal) {
    const std::int32_t replaced = diagonal + (equal ? 0 : 1);
    return above + 1 < replaced ? above + 1 : replaced;
}

enum class EditDistanceOutput : int { distance = 0, reward32 = 1, reward64 = 2 };

struct EditDistanceRequest {
    EditDistanceOutput output;  // int64, float32 or float64
    void* out;                  // [B, K, T]; every element is written

    // The prefix of t tokens is at `distance`, the one before at `before`.
    SB_HD void write(std::int64_t index, std::int32_t distance, std::int32_t before) const {
        if (output == EditDistanceOutput::distance)
            static_cast<std::int64_t*>(out)[index] = distance;
        else if (output == EditDistanceOutput::reward32)
            static_cast<float*>(out)[index] = static_cast<float>(before - distance);
        else
            static_cast<double*>(out)[index] = before - distance;
    }
};

struct CompletionRequest {
    std::int64_t vocabulary, eos;
    std::int32_t special_count;
    std::int64_t specials[kMostSpecialTokens];  // never produced
    const std::int64_t* rows;                   // [row_count] states to write, counted in [B, K, T]; null: all
    std::int64_t row_count;
    int dtype;
    void* out;  // [row_count, V]; every element is written

    SB_HD bool produced(std::int64_t token) const {
        if (token < 0 || token >= vocabulary) return false;
        for (std::int32_t i = 0; i < special_count; ++i)
            if (specials[i] == token) return false;
        return true;
    }
};

// A state in 32-bit words: the value of an optimal token, negative for a state behind the end; the value of every other
// token; and one bit for each reference token, set where it continues a minimal entry of the row.
constexpr std::int64_t kGap = 0, kFill = 1, kBits = 2;
SB_HD inline std::int64_t state_words(const EditDistanceProblem& problem) {
    return kBits + (std::int64_t{problem.reference_length} + 31) / 32;
}
SB_HD inline bool continues_optimally(const std::int32_t* state, std::int32_t j) {
    return static_cast<std::uint32_t>(state[kBits + j / 32]) >> (j % 32) & 1;
}

// The caller allocates `workspace`: the bytes that the function named so asks for, 16-byte aligned.
namespace cpu {
std::int64_t edit_workspace(const EditDistanceProblem& problem, int threads);
void edit_distances(const EditDistanceProblem& problem, const EditDistanceRequest& request, void* workspace, int threads);
std::int64_t completion_workspace(const EditDistanceProblem& problem, int threads);
void completion_values(const EditDistanceProblem& problem, const CompletionRequest& request, void* workspace, int threads);
// The place in [B, L] of the first reference token outside [0, vocabulary), or -1.
std::int64_t edit_first_invalid_reference(const EditDistanceProblem& problem, std::int64_t vocabulary);
}  // namespace cpu
namespace cuda {
std::int64_t edit_workspace(const EditDistanceProblem& problem);
void edit_distances(const EditDistanceProblem& problem, const EditDistanceRequest& request, void* workspace, int device,
                    void* stream);
std::int64_t completion_workspace(const EditDistanceProblem& problem);
void completion_values(const EditDistanceProblem& problem, const CompletionRequest& request, void* workspace, int device,
                       void* stream);
}  // namespace cuda

}  // namespace softbellman
