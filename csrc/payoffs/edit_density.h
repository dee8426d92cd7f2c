// The exact log density of an edited sequence under each proposal, summed over every way to reach it, and of the mixture
// with the reference itself. Written for a group of lanes like edit_draws.h, in exact steps: same bits everywhere.
#pragma once
#include "core/exact_double.h"
#include "payoffs/edit_draws.h"

namespace softbellman {

// How y differs from x, position by position.
struct EditDifference {
    std::int32_t changed;      // positions that differ
    std::int32_t first, last;  // of those; first > last without any
    bool possible;             // equal lengths, and no position differs that is or became untouchable
};

SB_ANY_GROUP
template <class Group>
SB_HD EditDifference edit_difference(const EditProblem& problem, const std::int64_t* x, std::int32_t length,
                                     const std::int64_t* y, std::int32_t y_length, const Group& group) {
    if (length != y_length) return {0, 0, -1, false};
    std::int32_t changed = 0, forbidden = 0, first_back = -1, last = -1;
    for (std::int32_t i = group.lane; i < length; i += group.size) {
        const std::int64_t token = x[i], other = y[i];
        if (token == other) continue;
        ++changed;
        forbidden += !(problem.touchable(token) && problem.touchable(other));
        first_back = first_back > length - 1 - i ? first_back : length - 1 - i;
        last = i;
    }
    return {group.sum(changed), length - 1 - group.maximum(first_back), group.maximum(last), group.sum(forbidden) == 0};
}

// The sum of A^-(touchable tokens) over the windows of one order that cover every changed position, over all its windows.
SB_HD inline double ngram_share(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t order,
                                const EditDifference& difference) {
    std::int32_t from = difference.last - order + 1, to = difference.first;
    if (from < 0) from = 0;
    if (to > length - order) to = length - order;
    if (from > to) return 0.0;
    std::int32_t inside = 0;
    for (std::int32_t i = from; i < from + order; ++i) inside += problem.touchable(x[i]);
    double sum = problem.inverse_power[inside];
    for (std::int32_t start = from + 1; start <= to; ++start) {
        inside += problem.touchable(x[start + order - 1]);
        inside -= problem.touchable(x[start - 1]);
        sum = exact_add(sum, problem.inverse_power[inside]);
    }
    return exact_divide(sum, static_cast<double>(length - order + 1));
}

SB_ANY_GROUP
template <class Group>
SB_HD double ngram_density(const EditProblem& problem, const std::int64_t* x, std::int32_t length,
                           const EditDifference& difference, const Group& group) {
    if (length == 0) return 0.0;
    const std::int32_t orders = problem.max_order < length ? problem.max_order : length;
    double total = 0.0;
    for (std::int32_t base = 0; base < orders; base += group.size) {
        const std::int32_t order = base + group.lane + 1;
        const double share = order <= orders ? ngram_share(problem, x, length, order, difference) : 0.0;
        for (int lane = 0; lane < group.size && base + lane < orders; ++lane)
            total = exact_add(total, group.broadcast(share, lane));
    }
    return exact_log(exact_divide(total, static_cast<double>(orders)));
}

// `n`: touchable tokens of x.
SB_HD inline double corrupt_density(const EditProblem& problem, std::int32_t n, const EditDifference& difference) {
    const std::int32_t changed = difference.changed, kept = n - difference.changed;
    const double changes = changed ? exact_multiply(static_cast<double>(changed), problem.log_change) : 0.0;
    const double stays = kept ? exact_multiply(static_cast<double>(kept), problem.log_stay) : 0.0;
    return exact_add(changes, stays);
}

SB_HD inline double hamming_density(const EditProblem& problem, std::int32_t n, const EditDifference& difference) {
    if (difference.changed > problem.max_distance) return -infinity<double>();
    const double payoff = -exact_divide(static_cast<double>(difference.changed), problem.temperature);
    return exact_add(payoff, -problem.log_normalizers[n]);
}

// log [ (1/Z_n) sum_e exp(-e/temperature) F_e ], F_e the weight times token probabilities of the scripts of e operations
// that turn x into y. With F(i, j, left) the same of the scripts of x_1..i into y_1..j that leave `left` operations,
//     F(i, j, left) = [x_i = y_j] F(i-1, j-1, left) + [x_i /= y_j] s F(i-1, j-1, left+1) + w F(i-1, j, left+1)
//                     + [gap behind x_i] v F(i, j-1, left+1),
// s, w, v the scaled substitution, deletion, insertion. Only the diagonals j - i from which the end is still within reach
// are kept, one row of `left` each, updated in place from i to i + 1; lanes take `left`.
SB_ANY_GROUP
template <class Group>
SB_HD double script_density(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t n,
                            const std::int64_t* y, std::int32_t y_length, double* cells, const Group& group) {
    const std::int32_t limit = problem.max_distance, shift = y_length - length;
    if (shift > limit || -shift > limit) return -infinity<double>();
    const std::int32_t lowest = -((limit - shift) / 2), highest = (limit + shift) / 2, stride = limit + 2;
    const auto diagonal = [&](std::int32_t d) { return cells + static_cast<std::int64_t>(d - lowest + 1) * stride; };
    const auto distance = [](std::int32_t d) { return d < 0 ? -d : d; };

    std::int32_t last = -1;
    for (std::int32_t i = group.lane; i < length; i += group.size)
        if (problem.touchable(x[i])) last = i;
    last = group.maximum(last);
    group.sync();
    for (std::int32_t c = group.lane; c < (highest - lowest + 3) * stride; c += group.size) cells[c] = 0.0;
    group.sync();
    if (group.lane == 0) diagonal(0)[limit] = 1.0;
    group.sync();

    for (std::int32_t i = 0; i <= length; ++i) {
        const bool free = i > 0 && problem.touchable(x[i - 1]);
        const bool gap = (i < length && problem.touchable(x[i])) || (i > 0 && i - 1 == last);
        const std::int32_t from = lowest > -i ? lowest : -i, to = highest < y_length - i ? highest : y_length - i;
        for (std::int32_t d = from; d <= to; ++d) {
            const std::int32_t j = i + d;
            if (i == 0 && j == 0) continue;
            double keep = 0.0, replace = 0.0, insert = 0.0;
            if (j > 0) {
                const bool allowed = problem.touchable(y[j - 1]);
                if (i > 0 && x[i - 1] == y[j - 1])
                    keep = 1.0;
                else if (free && allowed)
                    replace = problem.substitution;
                if (gap && allowed) insert = problem.insertion;
            }
            const double remove = free ? problem.deletion : 0.0;
            double* here = diagonal(d);
            const double *above = here + stride, *before = here - stride;
            const std::int32_t end = limit - distance(d);
            for (std::int32_t base = distance(shift - d); base <= end; base += group.size) {
                const std::int32_t left = base + group.lane;
                double value = 0.0;
                if (left <= end) {
                    value = exact_add(exact_multiply(keep, here[left]), exact_multiply(replace, here[left + 1]));
                    value = exact_add(value, exact_multiply(remove, above[left + 1]));
                    value = exact_add(value, exact_multiply(insert, before[left + 1]));
                }
                group.sync();
                if (left <= end) here[left] = value;
            }
            group.sync();
        }
    }

    // The sum over e = limit - left, largest term first taken out; in the same order for every group.
    double* sums = diagonal(shift);
    const std::int32_t end = limit - distance(shift);
    for (std::int32_t left = group.lane; left <= end; left += group.size) {
        const std::int32_t operations = limit - left;
        const double weight = exact_log(sums[left], -operations * problem.scale_exponent);
        const double payoff = operations ? -exact_divide(static_cast<double>(operations), problem.temperature) : 0.0;
        sums[left] = exact_add(weight, payoff);
    }
    group.sync();
    double largest = -infinity<double>();
    for (std::int32_t left = 0; left <= end; ++left) largest = sums[left] > largest ? sums[left] : largest;
    group.sync();
    if (largest == -infinity<double>()) return largest;
    for (std::int32_t left = group.lane; left <= end; left += group.size)
        sums[left] = exact_exp(exact_add(sums[left], -largest));
    group.sync();
    double total = 0.0;
    for (std::int32_t left = 0; left <= end; ++left) total = exact_add(total, sums[left]);
    group.sync();
    return exact_add(exact_add(largest, exact_log(total)), -problem.log_normalizers[n]);
}

// The density of the mixture for which the K samples of a source stand when one of them is the reference, else log q(y).
SB_HD inline double mixed_density(const EditProblem& problem, double value, bool gold) {
    if (!problem.keep_gold) return value;
    if (problem.samples == 1) return gold ? 0.0 : -infinity<double>();
    value = exact_add(value, problem.log_rest);
    return gold ? exact_log_add(problem.log_gold, value) : value;
}

SB_ANY_GROUP
template <class Group>
SB_HD double density_row(const EditProblem& problem, const std::int64_t* x, std::int32_t length, const std::int64_t* y,
                         std::int32_t y_length, double* cells, const Group& group) {
    const EditDifference difference = edit_difference(problem, x, length, y, y_length, group);
    const bool gold = difference.possible && difference.changed == 0;
    double value = -infinity<double>();
    if (problem.proposal == EditProposal::ngram) {
        if (difference.possible) value = ngram_density(problem, x, length, difference, group);
    } else {
        const std::int32_t n = count_touchable(problem, x, length, group);
        if (problem.proposal == EditProposal::edit) {
            if (n > 0) value = script_density(problem, x, length, n, y, y_length, cells, group);
            if (n == 0 && gold) value = 0.0;
        } else if (difference.possible) {
            value = problem.proposal == EditProposal::corrupt ? corrupt_density(problem, n, difference)
                                                              : hamming_density(problem, n, difference);
        }
    }
    return mixed_density(problem, value, gold);
}

// One row of the batch: drawn, where that is asked for, and scored.
SB_ANY_GROUP
template <class Group>
SB_HD void edit_row(const EditProblem& problem, std::int64_t row, double* cells, const Group& group) {
    const std::int64_t b = row / problem.samples;
    const std::int64_t* x = problem.reference(b);
    const std::int32_t length = problem.reference_length(b);
    std::int64_t* y = problem.edited + row * problem.width;
    std::int32_t y_length = 0;
    if (problem.draw) {
        y_length = draw_row(problem, x, length, row, y, group);
        for (std::int32_t i = y_length + group.lane; i < problem.width; i += group.size) y[i] = problem.pad;
        if (group.lane == 0) problem.edited_lengths[row] = y_length;
        group.sync();  // every lane reads what the others wrote
    } else {
        y_length = problem.given_length(row);
    }
    const double density = density_row(problem, x, length, y, y_length, cells, group);
    if (group.lane == 0) problem.log_density[row] = density;
}

}  // namespace softbellman
