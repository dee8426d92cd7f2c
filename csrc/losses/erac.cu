// The critic's loss of ERAC along sequences (eq 18 and 19): V = sum_w pi(w) (target_q(w) - tau log pi(w)) of every state,
// the target reward + V of the state that follows, td_error = q(a) - target, spread = sum_w (q(w) - mean)^2, loss =
// td_error^2 + smoothness * spread. The gradient, to q alone, is that of critic.cu.
//
// One read of each of the three [rows, vocab] inputs in one launch. The block of unit n takes logits and target_q of row n,
// and q of row n - 1: the value it finds is the one that the target of row n - 1 wants, so no block waits for another. One
// unit more than rows; a warp a unit up to 256 vectors of 16 bytes, a block or several a unit beyond (split_rows.cuh).
#include "losses/erac.h"

#include "core/families.cuh"
#include "losses/critic.h"
#include "losses/row_states.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct EracRows {
    using A = Accumulator<T>;
    const T* logits;
    std::int64_t logits_stride;
    const T* target_q;
    std::int64_t target_q_stride;
    const T* q;
    std::int64_t q_stride, rows;
    int vocab;
    const std::int64_t* actions;
    const A* rewards;
    const std::uint8_t* terminal;
    std::int64_t steps;
    A tau, smoothness;
    const std::uint8_t* mask;
};

template <class A>
struct EracStatistics {
    A *loss, *td_error, *targets, *value, *entropy, *mean, *mean_low, *spread;
};

template <class A>
struct EracState {
    PolicyState<A> policy;  // of row n under target_q
    Moments<A> moments;     // of q in row n - 1
};

template <class T>
__global__ void __launch_bounds__(kForwardThreads<T>)
    erac_forward_kernel(EracRows<T> in, RowStrands strands, EracStatistics<Accumulator<T>> out) {
    using A = Accumulator<T>;
    constexpr int kU = kPacketsThreeInputs;
    for (std::int64_t unit = first_row(); unit <= in.rows; unit += row_step()) {
        const std::int64_t row = unit - 1;  // the row that is regressed
        const bool valued = unit < in.rows && !is_masked(in.mask, unit), regressed = row >= 0 && !is_masked(in.mask, row);
        const RowReader<T> logits(in.logits + (valued ? unit : 0) * in.logits_stride, in.vocab);
        const RowReader<T> target_q(in.target_q + (valued ? unit : 0) * in.target_q_stride, in.vocab);
        const T* const q_row = in.q + (regressed ? row : 0) * in.q_stride;
        const RowReader<T> q(q_row, in.vocab);
        // As in critic.cu: values relative to the row's first.
        const A first = regressed ? to_accumulator(q_row[0]) : A(0);
        const A origin = first - first == A(0) ? first : A(0);
        const auto read = [&](int begin, int end) {
            EracState<A> state;
            for (int j = begin + warp_lane(); j < end && (valued || regressed); j += kU * kWarp) {
                Packet<T> logit_packets[kU], target_packets[kU], q_packets[kU];
                if (valued) {
                    logits.template read<kU>(j, kWarp, from_accumulator<T>(-infinity<A>()), logit_packets);
                    target_q.template read<kU>(j, kWarp, from_accumulator<T>(A(0)), target_packets);
                }
                if (regressed) q.template read<kU>(j, kWarp, from_accumulator<T>(-infinity<A>()), q_packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>], values[kLanes<T>];
                    if (valued) {
                        widen(logit_packets[u], x);
                        widen(target_packets[u], values);
                        extend<false>(state.policy, x, values);
                    }
                    if (regressed) {
                        widen(q_packets[u], x);
#pragma unroll
                        for (int k = 0; k < kLanes<T>; ++k) x[k] -= origin;
                        extend(state.moments, x);
                    }
                }
            }
            return state;
        };
        const auto merge = [](EracState<A> a, const EracState<A>& b) {
            a.policy.merge(b.policy);
            a.moments.merge(b.moments);
            return a;
        };
        EracState<A> state;
        if (!reduce_row(strands, unit, q.vectors(), state, read, merge)) continue;
        A value = A(0);
        if (unit < in.rows) {
            const PolicyTerms<A> terms = state.policy.terms(A(0));                        // zeros where nothing was read
            value = exact_add(terms.expectation, exact_multiply(in.tau, terms.entropy));  // the bits of policy.cu
            set(out.value, unit, value);
            set(out.entropy, unit, terms.entropy);
        }
        if (row < 0) continue;
        const bool ends = unit % in.steps == 0 || (in.terminal != nullptr && in.terminal[row] != 0);
        const A target = regressed ? in.rewards[row] + (ends ? A(0) : value) : A(0);
        const A error = regressed ? element_or_nan(q_row, in.actions[row], in.vocab) - target : A(0);
        set(out.targets, row, target);
        set(out.td_error, row, error);
        set(out.loss, row, critic_row_loss(error, state.moments.deviation, in.smoothness));
        const A mean = origin + state.moments.mean;
        set(out.mean, row, mean);
        set(out.mean_low, row, lost(origin, state.moments.mean, mean));
        set(out.spread, row, state.moments.deviation);
    }
}

}  // namespace

void erac_forward(const EracForward& in, const Launch& launch) {
    launch_rows("erac_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const EracRows<T> rows{static_cast<const T*>(in.logits.data),
                               in.logits.stride,
                               static_cast<const T*>(in.target_q.data),
                               in.target_q.stride,
                               static_cast<const T*>(in.q.data),
                               in.q.stride,
                               in.shape.rows,
                               static_cast<int>(in.shape.vocab),
                               in.actions,
                               static_cast<const A*>(in.rewards),
                               in.terminal,
                               in.steps,
                               A(in.tau),
                               A(in.smoothness),
                               in.shape.mask};
        const EracStatistics<A> out{static_cast<A*>(in.loss),     static_cast<A*>(in.td_error), static_cast<A*>(in.targets),
                                    static_cast<A*>(in.value),    static_cast<A*>(in.entropy),  static_cast<A*>(in.mean),
                                    static_cast<A*>(in.mean_low), static_cast<A*>(in.spread)};
        const auto kernel = erac_forward_kernel<T>;
        const StrandLaunch plan =
            strand_launch<T, EracState<A>>(in.shape.rows + 1, in.shape.vocab, kForwardThreads<T>, launch);
        SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, rows, plan.strands, out);
    });
}

}  // namespace softbellman::cuda
