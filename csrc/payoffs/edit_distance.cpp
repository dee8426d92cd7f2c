// Edit distances of every prefix and optimal completion values on the CPU.
//
// Both walk a hypothesis once with one row of L + 1 integers, O(T L) steps. The values take two passes: a thread describes
// the states of a hypothesis in a few words each, then the rows [V] are shared among the threads, each filled with one
// number and at most L + 18 entries put in. Rows of values are written once and never read.
#include "payoffs/edit_distance.h"

#include <algorithm>
#include <atomic>

#include "core/parallel.h"

namespace softbellman::cpu {
namespace {

// Steps of the distance row below which a second thread costs more than it brings.
constexpr std::int64_t kSerialSteps = 1 << 15;

std::int32_t cut_length(const EditDistanceProblem& problem, const std::int64_t* tokens, std::int32_t stated) {
    if (!problem.has_eos) return stated;
    return static_cast<std::int32_t>(std::find(tokens, tokens + stated, problem.eos) - tokens);
}

// A reference without what follows its end.
struct Reference {
    const std::int64_t* tokens;
    std::int32_t length;

    Reference(const EditDistanceProblem& problem, std::int64_t hypothesis)
        : tokens(problem.reference(hypothesis)),
          length(cut_length(problem, tokens, problem.stated_reference_length(hypothesis))) {}
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
void count_owed(std::int32_t* owed, const Reference& reference, const CompletionRequest& request) {
    owed[reference.length] = 0;
    for (std::int32_t j = reference.length; j-- > 0;) owed[j] = owed[j + 1] + !request.produced(reference.tokens[j]);
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
void write_values(const EditDistanceProblem& problem, const CompletionRequest& request, const std::int32_t* states,
                  std::int64_t row) {
    using A = Accumulator<T>;
    const std::int64_t index = request.rows ? request.rows[row] : row;
    const std::int32_t* state = states + index * state_words(problem);
    T* out = static_cast<T*>(request.out) + row * request.vocabulary;
    if (state[kGap] < 0) {
        std::fill_n(out, request.vocabulary, from_accumulator<T>(A(0)));
        return;
    }
    std::fill_n(out, request.vocabulary, from_accumulator<T>(static_cast<A>(state[kFill])));
    const std::int64_t* tokens = problem.reference(index / problem.length);
    const T optimal = from_accumulator<T>(static_cast<A>(state[kGap]));
    for (std::int32_t first = 0; first < problem.reference_length; first += 32) {
        if (state[kBits + first / 32] == 0) continue;
        for (std::int32_t j = first; j < std::min(first + 32, problem.reference_length); ++j)
            if (continues_optimally(state, j)) out[tokens[j]] = optimal;
    }
    for (std::int32_t i = 0; i < request.special_count; ++i) out[request.specials[i]] = from_accumulator<T>(-infinity<A>());
    out[request.eos] = from_accumulator<T>(A(0));
}

template <class T>
void write_all_values(const EditDistanceProblem& problem, const CompletionRequest& request, const std::int32_t* states,
                      int threads) {
    parallel_rows(request.row_count, threads, request.vocabulary, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t row = first; row < last; ++row) write_values<T>(problem, request, states, row);
    });
}

// One or two rows of integers a thread.
std::int64_t row_bytes(const EditDistanceProblem& problem) {
    return (4 * (std::int64_t{problem.reference_length} + 1) + 63) / 64 * 64;
}

// Calls per_hypothesis(hypothesis, rows), `rows` the thread's memory, slot_bytes long.
template <class PerHypothesis>
void for_each_hypothesis(const EditDistanceProblem& problem, char* memory, std::int64_t slot_bytes, int threads,
                         const PerHypothesis& per_hypothesis) {
    const std::int64_t hypotheses = problem.hypothesis_count();
    const std::int64_t steps = hypotheses * problem.length * (std::int64_t{problem.reference_length} + 1);
    const int workers =
        static_cast<int>(std::min({std::int64_t(std::max(threads, 1)), hypotheses, steps / kSerialSteps + 1}));
    std::atomic<std::int64_t> next{0};
    run_threads(workers, [&](int worker) {
        auto* rows = reinterpret_cast<std::int32_t*>(memory + worker * slot_bytes);
        for (std::int64_t hypothesis = next++; hypothesis < hypotheses; hypothesis = next++)
            per_hypothesis(hypothesis, rows);
    });
}

}  // namespace

std::int64_t edit_workspace(const EditDistanceProblem& problem, int threads) {
    return std::max(threads, 1) * row_bytes(problem);
}

void edit_distances(const EditDistanceProblem& problem, const EditDistanceRequest& request, void* workspace, int threads) {
    for_each_hypothesis(problem, static_cast<char*>(workspace), row_bytes(problem), threads,
                        [&](std::int64_t hypothesis, std::int32_t* row) {
                            const Reference reference(problem, hypothesis);
                            const std::int64_t* tokens = problem.hypothesis(hypothesis);
                            const std::int32_t length = cut_length(problem, tokens, problem.stated_length(hypothesis));
                            const std::int64_t first = hypothesis * problem.length;
                            start(row, reference.length);
                            for (std::int32_t t = 0; t < length; ++t) {
                                const std::int32_t before = row[reference.length];
                                advance(row, reference, tokens[t]);
                                request.write(first + t, row[reference.length], before);
                            }
                            for (std::int32_t t = length; t < problem.length; ++t) request.write(first + t, 0, 0);
                        });
}

std::int64_t completion_workspace(const EditDistanceProblem& problem, int threads) {
    const std::int64_t states = problem.hypothesis_count() * problem.length;
    return std::max(threads, 1) * 2 * row_bytes(problem) + 4 * states * state_words(problem);
}

void completion_values(const EditDistanceProblem& problem, const CompletionRequest& request, void* workspace, int threads) {
    const std::int64_t words = state_words(problem), slot_bytes = 2 * row_bytes(problem);
    char* memory = static_cast<char*>(workspace);
    auto* states = reinterpret_cast<std::int32_t*>(memory + std::max(threads, 1) * slot_bytes);
    for_each_hypothesis(problem, memory, slot_bytes, threads, [&](std::int64_t hypothesis, std::int32_t* row) {
        const Reference reference(problem, hypothesis);
        std::int32_t* owed = row + row_bytes(problem) / 4;
        count_owed(owed, reference, request);
        const std::int64_t* tokens = problem.hypothesis(hypothesis);
        const std::int32_t stated = problem.stated_length(hypothesis);
        const std::int32_t length = cut_length(problem, tokens, stated);
        std::int32_t* state = states + hypothesis * problem.length * words;
        start(row, reference.length);
        for (std::int32_t t = 0; t < problem.length; ++t, state += words) {
            if (t < stated && t <= length)  // the state in which the end itself is chosen is one, too
                describe(state, words, row, owed, reference.length);
            else
                state[kGap] = -1;
            if (t < length) advance(row, reference, tokens[t]);
        }
    });
    switch (request.dtype) {
        case kFloat32:
            return write_all_values<float>(problem, request, states, threads);
        case kFloat64:
            return write_all_values<double>(problem, request, states, threads);
        case kBFloat16:
            return write_all_values<BFloat16>(problem, request, states, threads);
        case kFloat16:
            return write_all_values<Float16>(problem, request, states, threads);
    }
}

std::int64_t edit_first_invalid_reference(const EditDistanceProblem& problem, std::int64_t vocabulary) {
    for (std::int64_t b = 0; b < problem.sources && problem.samples > 0; ++b) {
        const Reference reference(problem, b * problem.samples);
        for (std::int32_t j = 0; j < reference.length; ++j)
            if (reference.tokens[j] < 0 || reference.tokens[j] >= vocabulary) return b * problem.reference_length + j;
    }
    return -1;
}

}  // namespace softbellman::cpu
