// Value of the policy pi = softmax(logits) under q, sum_w pi(w) q(w) + effective_tau * H(pi) (eq 19, 20), its entropy, and
// the gradients of both with respect to logits and q.
//
// Forward: one read of each [rows, vocab] input; a warp a row up to 256 vectors of 16 bytes, a block or several a row
// beyond (split_rows.cuh); the sums of pi, pi log pi and pi q share one running maximum, and the normalized entropy's norm
// comes from moments of the logits in the same pass; a prior's logits are added to q as they are read. Backward: one read of
// each input and one write of each gradient, nothing reduced (a second read of the logits of rows whose normaliser is beyond
// 2^27).
#include "losses/policy.h"

#include "core/families.cuh"
#include "losses/row_states.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct PolicyRows {
    const T* logits;
    std::int64_t logits_stride;
    const T* q;
    std::int64_t q_stride;
    const T* prior;  // null: none
    std::int64_t prior_stride, rows;
    int vocab;
    const std::uint8_t* mask;
};

template <class A>
struct PolicyStatistics {
    A *value, *entropy, *log_normalizer, *correction, *value_low, *effective_tau;
};

// Of the policy under q + tau prior, and of the prior.
template <class A>
struct PolicyPriorState {
    PolicyState<A> policy;
    SoftmaxState<A> prior;

    SB_INLINE void merge(const PolicyPriorState& other) {
        policy.merge(other.policy);
        prior.merge(other.prior, A(1));
    }
};

template <class A>
__device__ __forceinline__ const PolicyState<A>& policy_state(const PolicyState<A>& state) {
    return state;
}
template <class A>
__device__ __forceinline__ const PolicyState<A>& policy_state(const PolicyPriorState<A>& state) {
    return state.policy;
}

template <class A>
__device__ __forceinline__ A value_of(const PolicyState<A>&, A, A expectation, A of_entropy) {
    return exact_add(expectation, of_entropy);
}
template <class A>
__device__ __forceinline__ A value_of(const PolicyPriorState<A>& state, A tau, A expectation, A of_entropy) {
    if (state.policy.maximum == -infinity<A>()) return A(0);
    if (state.prior.maximum == -infinity<A>()) return -infinity<A>();
    return (expectation - tau * state.prior.maximum) + (of_entropy - tau * logarithm(state.prior.sum));
}

template <class T, bool kWithPrior>
using RowState = std::conditional_t<kWithPrior, PolicyPriorState<Accumulator<T>>, PolicyState<Accumulator<T>>>;

template <class T, bool kWithMoments, bool kWithPrior>
__global__ void __launch_bounds__(kForwardThreads<T>)
    policy_forward_kernel(PolicyRows<T> in, RowStrands strands, Accumulator<T> tau, int entropy_mode,
                          PolicyStatistics<Accumulator<T>> out) {
    using A = Accumulator<T>;
    using State = RowState<T, kWithPrior>;
    // The moments need registers too.
    constexpr int kU = kWithPrior ? kPacketsThreeInputs : kWithMoments ? 1 : kPacketsTwoInputs;
    const T absent = from_accumulator<T>(-infinity<A>());
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                set(out.value, row, A(0));
                set(out.entropy, row, A(0));
                set(out.log_normalizer, row, A(0));
                set(out.correction, row, A(1));
                set(out.value_low, row, A(0));
                set(out.effective_tau, row, A(0));
            }
            continue;
        }
        const RowReader<T> logits(in.logits + row * in.logits_stride, in.vocab);
        const RowReader<T> q(in.q + row * in.q_stride, in.vocab);
        const RowReader<T> prior(kWithPrior ? in.prior + row * in.prior_stride : in.q, in.vocab);
        const auto read = [&](int first, int last) {
            State state;
            for (int j = first + warp_lane(); j < last; j += kU * kWarp) {
                Packet<T> logit_packets[kU], q_packets[kU], prior_packets[kU];
                logits.template read<kU>(j, kWarp, absent, logit_packets);
                q.template read<kU>(j, kWarp, from_accumulator<T>(A(0)), q_packets);
                if (kWithPrior) prior.template read<kU>(j, kWarp, absent, prior_packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>], values[kLanes<T>];
                    widen(logit_packets[u], x);
                    widen(q_packets[u], values);
                    if constexpr (kWithPrior) {
                        A weights[kLanes<T>];
                        widen(prior_packets[u], weights);
                        extend(state.prior, weights, A(1), A(kLogTwoOfE));
                        add_prior(values, weights, tau);
                        extend<kWithMoments>(state.policy, x, values);
                    } else {
                        extend<kWithMoments>(state, x, values);
                    }
                }
            }
            return state;
        };
        const auto merge = [](State a, const State& b) {
            a.merge(b);
            return a;
        };
        State state;
        if (!reduce_row(strands, row, logits.vectors(), state, read, merge)) continue;
        const PolicyTerms<A> terms = policy_state(state).terms(A(0));
        const A effective_tau = effective_temperature(tau, entropy_mode, terms.log_policy_squared);
        const A of_entropy = exact_multiply(effective_tau, terms.entropy);  // as erac.cu does
        const A value = value_of(state, tau, terms.expectation, of_entropy);
        set(out.value, row, value);
        set(out.value_low, row, lost(terms.expectation, of_entropy, value));
        set(out.entropy, row, terms.entropy);
        set(out.log_normalizer, row, terms.log_normalizer);
        set(out.correction, row, terms.correction);
        set(out.effective_tau, row, effective_tau);
    }
}

template <class T>
struct PolicyGradients {
    using A = Accumulator<T>;
    const A *grad_value, *grad_entropy;  // incoming, null where absent
    T* grad_logits;
    std::int64_t grad_logits_stride;
    T* grad_q;
    std::int64_t grad_q_stride;
};

template <class T, bool kWithPrior>
__global__ void __launch_bounds__(kBackwardThreads)
    policy_backward_kernel(PolicyRows<T> in, PolicyStatistics<const Accumulator<T>> saved, PolicyGradients<T> out) {
    using A = Accumulator<T>;
    const T absent = from_accumulator<T>(-infinity<A>());
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* const grad_logits = out.grad_logits != nullptr ? out.grad_logits + row * out.grad_logits_stride : nullptr;
        T* const grad_q = out.grad_q != nullptr ? out.grad_q + row * out.grad_q_stride : nullptr;
        if (is_masked(in.mask, row)) {
            if (grad_logits != nullptr) write_zeros(grad_logits, in.vocab, first, stride);
            if (grad_q != nullptr) write_zeros(grad_q, in.vocab, first, stride);
            continue;
        }
        const A entropy = saved.entropy[row], log_normalizer = saved.log_normalizer[row];
        const A row_value = saved.value[row];
        const A value_low = saved.value_low[row], effective_tau = saved.effective_tau[row];
        const A weight_value = get(out.grad_value, row, A(0)), weight_entropy = get(out.grad_entropy, row, A(0));
        // A value of -inf (a possible action with q = -inf) has no finite gradient to the logits: none is given.
        const bool finite = row_value - row_value == A(0), reads_q = grad_logits != nullptr && finite;
        const bool reads_prior = kWithPrior && reads_q && effective_tau != A(0);
        const A value = finite ? row_value : A(0), by_value = finite ? weight_value : A(0);
        const T* logits_row = in.logits + row * in.logits_stride;
        A log_mass = -logarithm(saved.correction[row]);  // of the weights exp(x - log_normalizer)
        if (is_coarse(log_normalizer))
            log_mass = logarithm(row_total(logits_row, in.vocab, [&](A x, int) { return exponential(x - log_normalizer); }));
        const int lead = store_lead(grad_logits != nullptr ? grad_logits : grad_q);
        const RowReader<T> logits(logits_row, in.vocab, lead);
        const RowReader<T> q(in.q + row * in.q_stride, in.vocab, lead);
        const RowReader<T> prior(kWithPrior ? in.prior + row * in.prior_stride : in.q, in.vocab, lead);
        const RowWriter<T> logits_writer(grad_logits, in.vocab, lead), q_writer(grad_q, in.vocab, lead);
        for (int j = first; j < logits.vectors(); j += stride) {
            Packet<T> logit_packet[1], q_packet[1] = {}, prior_packet[1] = {};
            logits.template read<1>(j, stride, absent, logit_packet);
            if (reads_q) q.template read<1>(j, stride, from_accumulator<T>(A(0)), q_packet);
            if (reads_prior) prior.template read<1>(j, stride, from_accumulator<T>(A(0)), prior_packet);
            A x[kLanes<T>], values[kLanes<T>];
            widen(logit_packet[0], x);
            widen(q_packet[0], values);
            if (kWithPrior) {
                A weights[kLanes<T>];
                widen(prior_packet[0], weights);
                add_prior(values, weights, effective_tau);
            }
            T for_logits[kLanes<T>], for_q[kLanes<T>];
#pragma unroll
            for (int k = 0; k < kLanes<T>; ++k) {
                const A log_probability = (x[k] - log_normalizer) - log_mass;
                const A probability = x[k] == -infinity<A>() ? A(0) : exponential(log_probability);
                for_logits[k] =
                    from_accumulator<T>(policy_gradient_logits(probability, log_probability, values[k], value, value_low,
                                                               entropy, effective_tau, by_value, weight_entropy));
                for_q[k] = from_accumulator<T>(weight_value * probability);
            }
            if (grad_logits != nullptr) logits_writer.write(j, for_logits);
            if (grad_q != nullptr) q_writer.write(j, for_q);
        }
    }
}

template <class T, class Parameters>
PolicyRows<T> policy_rows(const Parameters& in) {
    return {static_cast<const T*>(in.logits.data),
            in.logits.stride,
            static_cast<const T*>(in.q.data),
            in.q.stride,
            static_cast<const T*>(in.prior.data),
            in.prior.stride,
            in.shape.rows,
            static_cast<int>(in.shape.vocab),
            in.shape.mask};
}

template <class T, bool kWithMoments, bool kWithPrior>
void launch_forward(const PolicyForward& in, const PolicyStatistics<Accumulator<T>>& out, const Launch& launch) {
    const auto kernel = policy_forward_kernel<T, kWithMoments, kWithPrior>;
    const StrandLaunch plan =
        strand_launch<T, RowState<T, kWithPrior>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
    SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, policy_rows<T>(in), plan.strands,
              Accumulator<T>(in.tau), in.entropy_mode, out);
}

}  // namespace

void policy_forward(const PolicyForward& in, const Launch& launch) {
    launch_rows("policy_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const PolicyStatistics<A> out{static_cast<A*>(in.value),          static_cast<A*>(in.entropy),
                                      static_cast<A*>(in.log_normalizer), static_cast<A*>(in.correction),
                                      static_cast<A*>(in.value_low),      static_cast<A*>(in.effective_tau)};
        if (in.prior.data != nullptr && in.tau != 0.0)
            launch_forward<T, false, true>(in, out, launch);
        else if (in.entropy_mode == kEntropyNormalized)
            launch_forward<T, true, false>(in, out, launch);
        else
            launch_forward<T, false, false>(in, out, launch);
    });
}

void policy_backward(const PolicyBackward& in, const Launch& launch) {
    if (in.grad_logits.data == nullptr && in.grad_q.data == nullptr) return;
    launch_rows("policy_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const PolicyStatistics<const A> saved{
            static_cast<const A*>(in.value),          static_cast<const A*>(in.entropy),
            static_cast<const A*>(in.log_normalizer), static_cast<const A*>(in.correction),
            static_cast<const A*>(in.value_low),      static_cast<const A*>(in.effective_tau)};
        const PolicyGradients<T> out{static_cast<const A*>(in.grad_value), static_cast<const A*>(in.grad_entropy),
                                     static_cast<T*>(in.grad_logits.data), in.grad_logits.stride,
                                     static_cast<T*>(in.grad_q.data),      in.grad_q.stride};
        const auto kernel = in.prior.data != nullptr ? policy_backward_kernel<T, true> : policy_backward_kernel<T, false>;
        const RowLaunch plan = elementwise_launch(in.shape.rows, in.shape.vocab, kLanes<T>, 1, launch.device);
        SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, policy_rows<T>(in), saved, out);
    });
}

}  // namespace softbellman::cuda
