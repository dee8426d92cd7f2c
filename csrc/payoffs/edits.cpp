// Random edits and their densities on the CPU; a row belongs to one thread. Compiled with -ffp-contract=off: tokens and
// densities have the same bits on every processor.
#include "payoffs/edits.h"

#include "core/parallel.h"
#include "payoffs/edit_changes.h"
#include "payoffs/edit_density.h"

namespace softbellman::cpu {
namespace {

struct OneLane {
    static constexpr int lane = 0, size = 1;
    void sync() const {}
    template <class T>
    T broadcast(T value, int) const {
        return value;
    }
    std::int32_t sum(std::int32_t value) const { return value; }
    std::int32_t before(bool) const { return 0; }
    std::int32_t maximum(std::int32_t value) const { return value; }
};

void refuse_invalid_tokens(const EditProblem& problem) {
    for (std::int64_t b = 0; b < problem.references.sources; ++b) {
        const std::int64_t* tokens = problem.reference(b);
        const std::int32_t length = problem.reference_length(b);
        std::uint64_t outside = 0;  // unsigned, as the difference may not fit
        for (std::int32_t i = 0; i < length; ++i) {
            const auto token = static_cast<std::uint64_t>(tokens[i]);
            outside |= token | (static_cast<std::uint64_t>(problem.vocabulary - 1) - token);
        }
        if (outside >> 63 == 0) continue;  // no sign bit: every token lies within
        for (std::int32_t i = 0; i < length; ++i)
            if (tokens[i] < 0 || tokens[i] >= problem.vocabulary)
                throw std::invalid_argument("tokens must be ids below the vocabulary, " +
                                            std::to_string(problem.vocabulary) + ", got " + std::to_string(tokens[i]) + ".");
    }
}

}  // namespace

void edit_rows(const EditProblem& problem, int threads) {
    refuse_invalid_tokens(problem);
    const std::int64_t rows = problem.rows();
    const bool replaces = problem.proposal == EditProposal::corrupt || problem.proposal == EditProposal::hamming;
    if (problem.draw && replaces) {
        parallel_rows(rows, threads, std::int64_t(problem.length()) * 2,
                      [&](std::int64_t first, std::int64_t last) { change_rows(problem, first, last); });
        return;
    }
    const std::int64_t cells = problem.proposal == EditProposal::edit ? edit_cells(problem.max_distance) : 0;
    // In multiples of what a float of a row kernel costs; a random number is some ten of them.
    const std::int64_t cost = std::int64_t(problem.length()) * 8 + cells * problem.length() / 2;
    parallel_rows(rows, threads, cost, [&](std::int64_t first, std::int64_t last) {
        double scratch[(kEditOperations + 3) * (kEditOperations + 2)];
        for (std::int64_t row = first; row < last; ++row) edit_row(problem, row, scratch, OneLane());
    });
}

double exact_log_of(double x) {
    return exact_log(x);
}
double exact_exp_of(double x) {
    return exact_exp(x);
}

}  // namespace softbellman::cpu
