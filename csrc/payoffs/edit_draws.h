// One edited sequence of each proposal, drawn by a group of lanes: one on the CPU, a warp on the GPU. Lanes take positions;
// where a choice depends on the one before (hamming, edit), each lane computes the random numbers of one change or step and
// all lanes walk through them together. Group: lane, size, sync(), broadcast(value, lane), sum(), maximum(), before(flag),
// the number of lower lanes whose flag is set.
//
// Which random block serves what. `ngram`: block 0 for order and start, 1 + i for position i. `corrupt`: a decision takes
// one byte, that of position i out of block kEditDecisions + i / 16; where it equals the upper 8 bits of the threshold,
// block kEditTies + i holds the lower 54; the j-th change takes half j % 2 of block 1 + j / 2. `hamming`: block 0 for the
// distance, 1 + j for place and token of the j-th change. `edit`: block 0 for the distance, 1 + i for step i of the script.
// edit_changes.cpp draws the same for many rows of `corrupt` and `hamming` at a time.
#pragma once
#include "payoffs/edits.h"

namespace softbellman {

#ifdef __CUDACC__
#define SB_ANY_GROUP _Pragma("nv_exec_check_disable")
#else
#define SB_ANY_GROUP
#endif

SB_ANY_GROUP
template <class Group>
SB_HD std::int32_t count_touchable(const EditProblem& problem, const std::int64_t* x, std::int32_t length,
                                   const Group& group) {
    std::int32_t count = 0;
    for (std::int32_t i = group.lane; i < length; i += group.size) count += problem.touchable(x[i]);
    return group.sum(count);
}

SB_ANY_GROUP
template <class Group>
SB_HD void copy_row(const std::int64_t* x, std::int32_t length, std::int64_t* out, const Group& group) {
    for (std::int32_t i = group.lane; i < length; i += group.size) out[i] = x[i];
}

// Every touchable token of one window is replaced by any of the alphabet, itself included.
SB_ANY_GROUP
template <class Group>
SB_HD void draw_ngram(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int64_t row,
                      std::int64_t* out, const Group& group) {
    std::int32_t start = 0, end = 0;
    if (length > 0) {
        const std::int32_t orders = problem.max_order < length ? problem.max_order : length;
        const EditDraw draw = problem.random(0, row);
        const auto order = 1 + static_cast<std::int32_t>(multiply_high64(draw.first, static_cast<std::uint64_t>(orders)));
        const auto starts = static_cast<std::uint64_t>(length - order + 1);
        start = static_cast<std::int32_t>(multiply_high64(draw.second, starts));
        end = start + order;
    }
    for (std::int32_t i = group.lane; i < length; i += group.size) {
        std::int64_t token = x[i];
        if (i >= start && i < end && problem.touchable(token))
            token = problem.any_token(problem.random(1 + static_cast<std::uint32_t>(i), row).second);
        out[i] = token;
    }
}

// Whether position i changes: `byte`, of its decision block, against the upper bits of the threshold, then, where they are
// equal, the lower bits. Together a decision by kEditDecisionBits bits that seldom needs more than eight.
SB_HD inline bool decide_change(const EditProblem& problem, std::uint32_t byte, std::int32_t i, std::int64_t row) {
    const auto upper = static_cast<std::uint32_t>(problem.rate_threshold >> kEditTieBits);
    if (byte != upper) return byte < upper;
    const std::uint64_t rest = problem.random(kEditTies + static_cast<std::uint32_t>(i), row).first;
    return rest >> (64 - kEditTieBits) < (problem.rate_threshold & ((std::uint64_t{1} << kEditTieBits) - 1));
}

// Every touchable token by itself is replaced by one of the others.
SB_ANY_GROUP
template <class Group>
SB_HD void draw_corrupt(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int64_t row,
                        std::int64_t* out, const Group& group) {
    std::int32_t earlier = 0;  // changes
    for (std::int32_t base = 0; base < length; base += group.size) {
        const std::int32_t i = base + group.lane;
        std::int64_t token = i < length ? x[i] : -1;
        bool change = i < length && problem.touchable(token);
        if (change) {
            const EditDraw bytes = problem.random(kEditDecisions + static_cast<std::uint32_t>(i) / 16, row);
            const std::uint64_t half = i & 8 ? bytes.second : bytes.first;
            change = decide_change(problem, static_cast<std::uint32_t>(half >> (8 * (i & 7))) & 0xff, i, row);
        }
        const std::int32_t j = earlier + group.before(change);
        earlier += group.sum(change);
        if (change) {
            const EditDraw draw = problem.random(1 + static_cast<std::uint32_t>(j) / 2, row);
            token = problem.other_token(j & 1 ? draw.second : draw.first, token);
        }
        if (i < length) out[i] = token;
    }
}

// The first column whose threshold the random number is below; the last threshold is above all of them.
SB_HD inline std::int32_t distance_of(const EditProblem& problem, std::int32_t n, std::uint64_t random) {
    const std::int64_t* thresholds = problem.thresholds + static_cast<std::int64_t>(n) * (problem.max_distance + 1);
    std::int32_t distance = 0;
    while (!problem.below(random, static_cast<std::uint64_t>(thresholds[distance]))) ++distance;
    return distance;
}

// The touchable position that has `rank` others before it.
SB_ANY_GROUP
template <class Group>
SB_HD std::int32_t touchable_position(const EditProblem& problem, const std::int64_t* x, std::int32_t length,
                                      std::int32_t rank, const Group& group) {
    for (std::int32_t base = 0; base < length; base += group.size) {
        const std::int32_t i = base + group.lane;
        const bool here = i < length && problem.touchable(x[i]);
        const std::int32_t before = group.before(here), count = group.sum(here);
        if (rank < count) return group.maximum(here && before == rank ? i : -1);
        rank -= count;
    }
    return -1;
}

// A distance d, then d of the n touchable positions, each set of them as likely as any other (Floyd's method, Bentley 1987):
// of the first n - d + 1 + j positions one by chance, or the last of them where that one was taken before.
SB_ANY_GROUP
template <class Group>
SB_HD void draw_hamming(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t n,
                        std::int64_t row, std::int64_t* out, const Group& group) {
    copy_row(x, length, out, group);
    std::int32_t first_back = 0, last = 0;
    for (std::int32_t i = group.lane; i < length; i += group.size) {
        if (!problem.touchable(x[i])) continue;
        first_back = first_back > length - i ? first_back : length - i;
        last = i;
    }
    const std::int32_t start = length - group.maximum(first_back);
    const bool together = group.maximum(last) - start + 1 == n;  // the usual case: special tokens at the ends alone
    const auto position_of = [&](std::int32_t rank) {
        return together ? start + rank : touchable_position(problem, x, length, rank, group);
    };
    const std::int32_t distance = distance_of(problem, n, problem.random(0, row).first);
    EditDraw draws{0, 0};
    for (std::int32_t j = 0; j < distance; ++j) {
        const int lane = j % group.size;
        if (lane == 0) draws = problem.random(1 + static_cast<std::uint32_t>(j + group.lane), row);
        const std::int32_t newest = n - distance + j;
        const std::uint64_t random = group.broadcast(draws.first, lane);
        std::int32_t i =
            position_of(static_cast<std::int32_t>(multiply_high64(random, static_cast<std::uint64_t>(newest) + 1)));
        // A position belongs to the lane that copied it, which sees its own changes.
        const bool taken = i % group.size == group.lane && out[i] != x[i];
        if (group.broadcast(taken, i % group.size)) i = position_of(newest);
        const std::uint64_t choice = group.broadcast(draws.second, lane);
        if (i % group.size == group.lane) out[i] = problem.other_token(choice, x[i]);
    }
}

// A number of operations, then a script of so many: at each touchable token insert before it, keep, replace or delete it,
// in proportion to the total weight of the scripts that go on so. Behind the last one what is left is inserted.
SB_ANY_GROUP
template <class Group>
SB_HD std::int32_t draw_script(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t n,
                               std::int64_t row, std::int64_t* out, const Group& group) {
    std::int32_t left = n > 0 ? distance_of(problem, n, problem.random(0, row).first) : 0;
    std::int32_t remaining = n, written = 0, step = 0;
    EditDraw draws{0, 0};
    const auto next = [&]() -> EditDraw {
        if (step % group.size == 0) draws = problem.random(1 + static_cast<std::uint32_t>(step + group.lane), row);
        const int lane = step++ % group.size;
        return {group.broadcast(draws.first, lane), group.broadcast(draws.second, lane)};
    };
    const auto write = [&](std::int64_t token) {
        if (group.lane == 0) out[written] = token;
        ++written;
    };
    for (std::int32_t i = 0; i < length;) {
        const std::int64_t token = x[i];
        if (left == 0 || !problem.touchable(token)) {
            write(token);
            ++i;
            continue;
        }
        const EditDraw draw = next();
        const std::int64_t* thresholds = problem.script_thresholds(remaining, left);
        if (problem.below(draw.first, static_cast<std::uint64_t>(thresholds[0]))) {
            write(problem.any_token(draw.second));
            --left;
            continue;
        }
        if (problem.below(draw.first, static_cast<std::uint64_t>(thresholds[1]))) {
            write(token);
        } else {
            if (problem.below(draw.first, static_cast<std::uint64_t>(thresholds[2])))
                write(problem.other_token(draw.second, token));
            --left;
        }
        ++i;
        --remaining;
        if (remaining == 0)
            for (; left > 0; --left) write(problem.any_token(next().second));
    }
    return written;
}

// Draws one row and returns its length.
SB_ANY_GROUP
template <class Group>
SB_HD std::int32_t draw_row(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int64_t row,
                            std::int64_t* out, const Group& group) {
    if (problem.keep_gold && row % problem.samples == 0) {
        copy_row(x, length, out, group);
        return length;
    }
    switch (problem.proposal) {
        case EditProposal::ngram:
            draw_ngram(problem, x, length, row, out, group);
            return length;
        case EditProposal::corrupt:
            draw_corrupt(problem, x, length, row, out, group);
            return length;
        case EditProposal::hamming:
            draw_hamming(problem, x, length, count_touchable(problem, x, length, group), row, out, group);
            return length;
        case EditProposal::edit:
            return draw_script(problem, x, length, count_touchable(problem, x, length, group), row, out, group);
    }
    return 0;
}

}  // namespace softbellman
