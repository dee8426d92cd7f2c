// Edit distances of every prefix and optimal completion values on the CPU.
//
// Both walk a hypothesis once with one row of L + 1 integers, O(T L) steps. The values take two passes: a thread describes
// the states of a hypothesis in a few words each, then the rows [V] are shared among the threads, each filled with one
// number and at most L + 18 entries put in. Rows of values are written once and never read.
#include "payoffs/edit_distance.h"

#include <algorithm>

#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

// A reference without what follows its end.
struct Reference {
    const std::int64_t* tokens;
    std::int32_t length;

    Reference(const TokenBatch& batch, std::int64_t b)
        : tokens(batch.references.row(b, 0)), length(cut_length(batch, batch.references, b, 0)) {}
};

// The row of the empty prefix.
void start(std::int32_t* row, std::int32_t length) {
    for (std::int32_t j = 0; j <= length; ++j) row[j] = j;
}

void advance(std::int32_t* row, const Reference& reference, std::int64_t token) {
    std::int32_t diagonal = row[0], left = ++row[0];
    for (std::int32_t j = 1; j <= reference.length; ++j) {
        const std::int32_t above = row[j];
        left = std::min(left + 1, edit_without_left(above, diagonal, reference.tokens[j - 1] == token));
        row[j] = left;
        diagonal = above;
    }
}

// owed[j]: how many of the reference's tokens from j on cannot be produced.
void count_owed(std::int32_t* owed, const Reference& reference, const CompletionValues& values) {
    owed[reference.length] = 0;
    for (std::int32_t j = reference.length; j-- > 0;) owed[j] = owed[j + 1] + !values.produced(reference.tokens[j]);
}

void describe(std::int32_t* state, std::int64_t words, const std::int32_t* row, const std::int32_t* owed,
              std::int32_t length) {
    std::int32_t best = row[0] + owed[0];
    for (std::int32_t j = 1; j <= length; ++j) best = std::min(best, row[j] + owed[j]);
    std::fill(state + kBits, state + words, 0);
    bool any_token = false;
    for (std::int32_t j = 0; j < length; ++j) {
        if (row[j] + owed[j] != best) continue;
        if (owed[j] == owed[j + 1])
            state[kBits + j / 32] |= static_cast<std::int32_t>(std::uint32_t{1} << (j % 32));
        else
            any_token = true;
    }
    state[kGap] = row[length] - best;
    state[kFill] = state[kGap] - !any_token;
}

template <class T>
void write_values(const CompletionValues& values, const std::int32_t* states, std::int64_t row) {
    using A = Accumulator<T>;
    const std::int64_t index = values.rows ? values.rows[row] : row;
    const std::int32_t* state = states + index * state_words(values);
    T* out = static_cast<T*>(values.out) + row * values.vocabulary;
    if (state[kGap] < 0) {
        std::fill_n(out, values.vocabulary, from_accumulator<T>(A(0)));
        return;
    }
    std::fill_n(out, values.vocabulary, from_accumulator<T>(static_cast<A>(state[kFill])));
    const std::int64_t* tokens = values.references.row(index / values.length() / values.samples(), 0);
    const T optimal = from_accumulator<T>(static_cast<A>(state[kGap]));
    for (std::int32_t first = 0; first < values.reference_length(); first += 32) {
        if (state[kBits + first / 32] == 0) continue;
        for (std::int32_t j = first; j < std::min(first + 32, values.reference_length()); ++j)
            if (continues_optimally(state, j)) out[tokens[j]] = optimal;
    }
    for (std::int64_t i = 0; i < values.special_count; ++i) out[values.specials[i]] = from_accumulator<T>(-infinity<A>());
    out[values.eos] = from_accumulator<T>(A(0));
}

template <class T>
void write_all_values(const CompletionValues& values, const std::int32_t* states, int threads) {
    parallel_rows(values.row_count, threads, values.vocabulary, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t row = first; row < last; ++row) write_values<T>(values, states, row);
    });
}

// One or two rows of integers a thread.
std::int64_t row_bytes(const TokenBatch& batch) {
    return (4 * (std::int64_t{batch.reference_length()} + 1) + 63) / 64 * 64;
}

// Calls per_hypothesis(b, k, rows) for every hypothesis, `rows` the thread's memory, slot_bytes long.
template <class PerHypothesis>
void for_each_hypothesis(const TokenBatch& batch, void* memory, std::int64_t slot_bytes, int threads,
                         const PerHypothesis& per_hypothesis) {
    constexpr std::int64_t kSerialSteps = 1 << 15;  // of the row; below, a second thread costs more than it brings
    const std::int64_t row_steps = std::int64_t{batch.reference_length()} + 1;
    const std::int64_t useful = batch.hypotheses.count() * batch.length() * row_steps / kSerialSteps + 1;
    for_each_source_share(batch, threads, useful, [&](int worker, std::int64_t b, std::int64_t first, std::int64_t last) {
        auto* rows = reinterpret_cast<std::int32_t*>(static_cast<char*>(memory) + worker * slot_bytes);
        for (std::int64_t k = first; k < last; ++k) per_hypothesis(b, k, rows);
    });
}

// The ids of references index the rows that are written.
void refuse_invalid_references(const CompletionValues& values) {
    for (std::int64_t b = 0; b < values.sources() && values.samples() > 0; ++b) {
        const Reference reference(values, b);
        for (std::int32_t j = 0; j < reference.length; ++j) {
            const std::int64_t token = reference.tokens[j];
            if (token < 0 || token >= values.vocabulary)
                throw std::invalid_argument("references must be ids in [0, " + std::to_string(values.vocabulary) +
                                            "), got " + std::to_string(token) + ".");
        }
    }
}

void describe_states(const CompletionValues& values, std::int32_t* states, int threads) {
    const std::int64_t words = state_words(values), entries = row_bytes(values) / 4;
    const auto describe_hypothesis = [&](std::int64_t b, std::int64_t k, std::int32_t* row) {
        const Reference reference(values, b);
        std::int32_t* owed = row + entries;
        count_owed(owed, reference, values);
        const std::int64_t* tokens = values.hypotheses.row(b, k);
        const std::int32_t stated = values.hypotheses.stated_length(b, k);
        const std::int32_t length = cut_length(values, values.hypotheses, b, k);
        std::int32_t* state = states + (b * values.samples() + k) * values.length() * words;
        start(row, reference.length);
        for (std::int32_t t = 0; t < values.length(); ++t, state += words) {
            if (t < stated && t <= length)  // the state in which the end itself is chosen is one, too
                describe(state, words, row, owed, reference.length);
            else
                state[kGap] = -1;
            if (t < length) advance(row, reference, tokens[t]);
        }
    };
    for_each_hypothesis(values, values.workspace.memory, 8 * entries, threads, describe_hypothesis);
}

}  // namespace

std::int64_t edit_workspace(const EditBatch& batch, int threads) {
    return std::max(threads, 1) * row_bytes(batch);
}

void edit_distances(const EditDistances& distances, int threads) {
    distances.workspace.check(edit_workspace(distances, threads));
    const auto measure = [&](std::int64_t b, std::int64_t k, std::int32_t* row) {
        const Reference reference(distances, b);
        const std::int64_t* tokens = distances.hypotheses.row(b, k);
        const std::int32_t length = cut_length(distances, distances.hypotheses, b, k);
        const std::int64_t first = (b * distances.samples() + k) * distances.length();
        start(row, reference.length);
        for (std::int32_t t = 0; t < length; ++t) {
            const std::int32_t before = row[reference.length];
            advance(row, reference, tokens[t]);
            distances.write(first + t, row[reference.length], before);
        }
        for (std::int32_t t = length; t < distances.length(); ++t) distances.write(first + t, 0, 0);
    };
    for_each_hypothesis(distances, distances.workspace.memory, row_bytes(distances), threads, measure);
}

std::int64_t completion_workspace(const EditBatch& batch, int threads) {
    return std::max(threads, 1) * 2 * row_bytes(batch) + 4 * batch.hypotheses.count() * batch.length() * state_words(batch);
}

void completion_values(const CompletionValues& values, int threads) {
    values.workspace.check(completion_workspace(values, threads));
    refuse_invalid_references(values);
    char* memory = static_cast<char*>(values.workspace.memory);
    auto* states = reinterpret_cast<std::int32_t*>(memory + std::max(threads, 1) * 2 * row_bytes(values));
    describe_states(values, states, threads);
    switch (values.dtype) {
        case kFloat32:
            return write_all_values<float>(values, states, threads);
        case kFloat64:
            return write_all_values<double>(values, states, threads);
        case kBFloat16:
            return write_all_values<BFloat16>(values, states, threads);
        case kFloat16:
            return write_all_values<Float16>(values, states, threads);
    }
}

}  // namespace softbellman::cpu
