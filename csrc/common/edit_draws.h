// One edited sequence of each proposal, drawn by a group of lanes: one on the CPU, a warp on the GPU. Lanes take positions;
// where a choice depends on the one before (hamming, edit), each lane computes the random numbers of its position and all
// lanes walk through them together. Group: lane, size, sync(), broadcast(value, lane), sum(), maximum().
//
// Which random block serves what: `ngram` takes block 0 for order and start, `hamming` and `edit` for the distance; block
// 1 + i serves position i of the sequence (ngram, corrupt, hamming) or step i of the script (edit).
#pragma once
#include "edits.h"

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

// Every touchable token by itself is replaced by one of the others.
SB_ANY_GROUP
template <class Group>
SB_HD void draw_corrupt(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int64_t row,
                        std::int64_t* out, const Group& group) {
    for (std::int32_t i = group.lane; i < length; i += group.size) {
        std::int64_t token = x[i];
        if (problem.touchable(token)) {
            const EditDraw draw = problem.random(1 + static_cast<std::uint32_t>(i), row);
            if (problem.below(draw.first, problem.rate_threshold)) token = problem.other_token(draw.second, token);
        }
        out[i] = token;
    }
}

// The first column whose threshold the random number is below; the last threshold is above all of them.
SB_HD inline std::int32_t draw_distance(const EditProblem& problem, std::int32_t n, std::int32_t columns, std::int64_t row) {
    const std::int64_t* thresholds = problem.thresholds + static_cast<std::int64_t>(n) * columns;
    const std::uint64_t random = problem.random(0, row).first;
    std::int32_t distance = 0;
    while (!problem.below(random, static_cast<std::uint64_t>(thresholds[distance]))) ++distance;
    return distance;
}

// A distance, then that many of the n touchable positions: the next one with probability (to choose) / (positions left).
SB_ANY_GROUP
template <class Group>
SB_HD void draw_hamming(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t n,
                        std::int64_t row, std::int64_t* out, const Group& group) {
    std::int32_t positions = n;
    std::int32_t choose = draw_distance(problem, n, problem.max_distance + 1, row);
    for (std::int32_t base = 0; base < length; base += group.size) {
        const std::int32_t i = base + group.lane;
        std::int64_t token = i < length ? x[i] : -1;
        const bool touchable = i < length && problem.touchable(token);
        EditDraw draw{0, 0};
        if (touchable && choose > 0) draw = problem.random(1 + static_cast<std::uint32_t>(i), row);
        bool chosen = false;
        for (int lane = 0; lane < group.size; ++lane) {
            if (!group.broadcast(touchable, lane)) continue;
            const std::uint64_t random = group.broadcast(draw.first, lane);
            const bool pick =
                multiply_high64(random, static_cast<std::uint64_t>(positions)) < static_cast<std::uint64_t>(choose);
            --positions;
            choose -= pick;
            if (lane == group.lane) chosen = pick;
        }
        if (chosen) token = problem.other_token(draw.second, token);
        if (i < length) out[i] = token;
    }
}

// A number of operations, then a script of so many: at each touchable token insert before it, keep, replace or delete it,
// in proportion to the total weight of the scripts that go on so. Behind the last one what is left is inserted.
SB_ANY_GROUP
template <class Group>
SB_HD std::int32_t draw_script(const EditProblem& problem, const std::int64_t* x, std::int32_t length, std::int32_t n,
                               std::int64_t row, std::int64_t* out, const Group& group) {
    std::int32_t left = n > 0 ? draw_distance(problem, n, problem.max_distance + 1, row) : 0;
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
