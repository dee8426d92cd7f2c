// The soft Bellman residual of eq 16 along sequences, q(a_t) - (r_t + V_{t+1}), and what arrives at q through it.
#pragma once

#include "core/portability.h"

namespace softbellman {

// Sequences of `steps` rows each, one behind the other; A is the accumulator type. steps = 0: none, nothing here is read.
struct Sequences {
    int64_t steps = 0;
    const uint8_t* terminal = nullptr;    // [rows], nothing follows where it is not 0; null: only at the end
    const void* rewards = nullptr;        // A[rows]
    void* residual = nullptr;             // A[rows]
    const void* grad_residual = nullptr;  // A[rows], of the backward pass, which reads neither rewards nor residual

    SB_INLINE bool ends(int64_t row) const { return (row + 1) % steps == 0 || (terminal != nullptr && terminal[row] != 0); }
    // Whether the value of this row enters the residual of the row before.
    SB_INLINE bool follows(int64_t row) const { return row > 0 && !ends(row - 1); }
};

// 0 where both are the same infinity, which have no difference.
template <class A>
SB_INLINE A difference(A chosen, A target) {
    return chosen == target ? A(0) : chosen - target;
}

// Every residual that the value of a row decides: of the row before, and of the row itself where nothing follows it. Each is
// written once whatever the order of the rows. `chosen(n)` is q at the action of row n, `masked(n)` whether it is no real
// row.
template <class A, class Chosen, class Masked>
SB_INLINE void write_residuals(const Sequences& sequences, int64_t row, A value, const Chosen& chosen,
                               const Masked& masked) {
    const A* const rewards = static_cast<const A*>(sequences.rewards);
    A* const residual = static_cast<A*>(sequences.residual);
    if (sequences.follows(row)) {
        residual[row - 1] = masked(row - 1) ? A(0) : difference(chosen(row - 1), rewards[row - 1] + value);
    }
    if (sequences.ends(row)) residual[row] = masked(row) ? A(0) : difference(chosen(row), rewards[row]);
}

// What arrives at the value of a real row.
template <class A, class Masked>
SB_INLINE A value_upstream(const Sequences& sequences, int64_t row, const Masked& masked) {
    if (!sequences.follows(row) || masked(row - 1)) return A(0);
    return -static_cast<const A*>(sequences.grad_residual)[row - 1];
}

}  // namespace softbellman
