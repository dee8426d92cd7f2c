// Edit (Levenshtein) distance of token sequences: one step of the distance row, and what the optimal completion values of a
// state are made of, for host and device.
//
// Notation of token_batch.h with R = 1; a reference of length 0 is the empty sequence; V vocabulary. The row of a prefix
// y_<t holds row[j] = d(y_<t, y*_1..j) for j = 0..L.
//
// Values. With the payoff R(y) = -d(y, y*) and completions of tokens that can be produced, the cheapest completion of y_<t
// that aligns it with y*_1..j costs row[j] + owed[j], where owed[j] counts the tokens of y*_j+1..L that cannot be produced
// (each must be replaced or left out). So the best payoff still to come is gap = row[L] - min_j (row[j] + owed[j]). A next
// token keeps the minimum where it equals y*_j+1 for a minimal j, or where y*_j+1 cannot be produced (any token replaces
// it); all other tokens lose one. Ending now earns 0.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "payoffs/token_batch.h"

namespace softbellman {

// A batch with one reference a source, [B, 1, L].
struct EditBatch : TokenBatch {
    template <class Fields>
    void describe(Fields& fields) {
        TokenBatch::describe(fields);
        fields.rule(references.rows <= 1, "references must be one per source");
        fields.rule(hypotheses.length <= kMostReferenceTokens, "hypotheses must have at most 2**29 tokens");
    }
};

// An entry of the next row but for its left neighbour: min(above + 1, diagonal + 1(tokens differ)).
SB_HD inline std::int32_t edit_without_left(std::int32_t above, std::int32_t diagonal, bool equal) {
    const std::int32_t replaced = diagonal + (equal ? 0 : 1);
    return above + 1 < replaced ? above + 1 : replaced;
}

enum class EditDistanceOutput : int { distance = 0, reward32 = 1, reward64 = 2 };

struct EditDistances : EditBatch {
    EditDistanceOutput output = EditDistanceOutput::distance;  // int64, float32 or float64
    void* out = nullptr;                                       // [B, K, T]; every element is written
    Workspace workspace;

    template <class Fields>
    void describe(Fields& fields) {
        EditBatch::describe(fields);
        fields.integer("output", output, 0, 2);
        const int dtype = output == EditDistanceOutput::distance   ? kInt64
                          : output == EditDistanceOutput::reward32 ? kFloat32
                                                                   : kFloat64;
        fields.untyped_array("out", out, hypotheses.count() * length(), dtype);
        workspace.describe(fields);
    }

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

struct CompletionValues : EditBatch, ProducedTokens {
    const std::int64_t* rows = nullptr;  // [row_count] states to write, counted in [B, K, T]; null: all
    std::int64_t row_count = 0;
    int dtype = kFloat32;
    void* out = nullptr;  // [row_count, V]; every element is written
    Workspace workspace;

    template <class Fields>
    void describe(Fields& fields) {
        EditBatch::describe(fields);
        ProducedTokens::describe(fields, *this);
        const std::int64_t states = hypotheses.count() * length();
        row_count = states;
        fields.optional_counted_array("rows", rows, row_count);
        fields.within("rows", rows, row_count, states - 1);
        fields.integer("dtype", dtype, kFloat32, kFloat16);
        fields.rule(static_cast<double>(row_count) * static_cast<double>(vocabulary) < 0x1p62,
                    "out must be below 2**62 values");
        fields.untyped_array("out", out, row_count * vocabulary, dtype);
        workspace.describe(fields);
    }
};

// A state in 32-bit words: the value of an optimal token, negative for a state behind the end; the value of every other
// token; and one bit for each reference token, set where it continues a minimal entry of the row.
constexpr std::int64_t kGap = 0, kFill = 1, kBits = 2;
SB_HD inline std::int64_t state_words(const TokenBatch& batch) {
    return kBits + (std::int64_t{batch.reference_length()} + 31) / 32;
}
SB_HD inline bool continues_optimally(const std::int32_t* state, std::int32_t j) {
    return static_cast<std::uint32_t>(state[kBits + j / 32]) >> (j % 32) & 1;
}

namespace cpu {
std::int64_t edit_workspace(const EditBatch& batch, int threads);
void edit_distances(const EditDistances& distances, int threads);
std::int64_t completion_workspace(const EditBatch& batch, int threads);
void completion_values(const CompletionValues& values, int threads);  // throws where a reference's id is not below V
}  // namespace cpu
namespace cuda {
std::int64_t edit_workspace(const EditBatch& batch);
void edit_distances(const EditDistances& distances, const Launch& launch);
std::int64_t completion_workspace(const EditBatch& batch);
// An id outside [0, V) counts as a token that cannot be produced: looking for it first would wait for the device.
void completion_values(const CompletionValues& values, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
