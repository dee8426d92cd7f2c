// Cross entropy of the policy pi = softmax(logits) under an oracle p = softmax(q / tau) (eq 17) mixed with a one-hot target;
// without q it is the negative log-likelihood. Gradient with respect to the logits alone.
//
// Forward: one read of each [rows, vocab] input; a warp a row up to 256 vectors of 16 bytes, a block or several a row
// beyond (split_rows.cuh); both normalisers and the expectation of the logits under p in one online state. Backward: one
// read of each, one write (a second read of rows whose normaliser is beyond 2^27).
#include "losses/cross_entropy.h"

#include "core/families.cuh"
#include "losses/row_states.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct CrossEntropyRows {
    using A = Accumulator<T>;
    const T* logits;
    std::int64_t logits_stride;
    const T* q;
    std::int64_t q_stride, rows;
    int vocab;
    A tau, scale, scale_log2;
    const std::int64_t* targets;
    const A* oracle_weight;  // null: 1 with q, 0 without
    const std::uint8_t* mask;
};

template <class A>
struct CrossEntropyStatistics {
    A *loss, *log_normalizer, *correction, *oracle_log_normalizer, *oracle_correction;
};

template <class T, bool kWithOracle>
__global__ void __launch_bounds__(kForwardThreads<T>)
    cross_entropy_forward_kernel(CrossEntropyRows<T> in, RowStrands strands, CrossEntropyStatistics<Accumulator<T>> out) {
    using A = Accumulator<T>;
    // Two packets of 16-bit numbers of both inputs, widened, would not fit the registers.
    constexpr int kU = !kWithOracle ? kPacketsOneInput : sizeof(T) == 2 ? 1 : kPacketsTwoInputs;
    const T absent = from_accumulator<T>(-infinity<A>());
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                set(out.loss, row, A(0));
                set(out.log_normalizer, row, A(0));
                set(out.correction, row, A(1));
                set(out.oracle_log_normalizer, row, A(0));
                set(out.oracle_correction, row, A(1));
            }
            continue;
        }
        const T* logits_row = in.logits + row * in.logits_stride;
        const RowReader<T> logits(logits_row, in.vocab);
        const RowReader<T> q(kWithOracle ? in.q + row * in.q_stride : logits_row, in.vocab);
        const A alpha = kWithOracle ? get(in.oracle_weight, row, A(1)) : A(0);
        const auto read = [&](int first, int last) {
            CrossEntropyState<A> state;
            for (int j = first + warp_lane(); j < last; j += kU * kWarp) {
                Packet<T> logit_packets[kU], q_packets[kU];
                logits.template read<kU>(j, kWarp, absent, logit_packets);
                if (kWithOracle && alpha != A(0)) q.template read<kU>(j, kWarp, absent, q_packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>], values[kLanes<T>];
                    widen(logit_packets[u], x);
                    if (kWithOracle && alpha != A(0)) {
                        widen(q_packets[u], values);
                        extend(state, x, values, in.scale, in.scale_log2);
                    } else {
                        extend(state.policy, x, A(1), A(kLogTwoOfE));
                    }
                }
            }
            return state;
        };
        const A scale = in.scale;
        const auto merge = [scale](CrossEntropyState<A> a, const CrossEntropyState<A>& b) {
            a.merge(b, scale);
            return a;
        };
        CrossEntropyState<A> state;
        if (!reduce_row(strands, row, logits.vectors(), state, read, merge)) continue;
        const A maximum = state.policy.maximum;
        const bool exists = maximum != -infinity<A>();
        const A log_sum = exists ? logarithm(state.policy.sum) : A(0);
        A target_shift = A(0);
        if (alpha != A(1) && in.targets != nullptr && exists)
            target_shift = log_sum + (maximum - element_or_nan(logits_row, in.targets[row], in.vocab));
        set(out.loss, row, exists ? cross_entropy_row_loss(log_sum, target_shift, state.oracle, alpha) : A(0));
        const A normalizer = maximum + log_sum;
        set(out.log_normalizer, row, normalizer);
        set(out.correction, row, state.policy.correction(normalizer, A(1)));
        const A oracle_normalizer = kWithOracle ? state.oracle.log_normalizer(scale) : -infinity<A>();
        set(out.oracle_log_normalizer, row, oracle_normalizer);
        // Of the weights as the backward pass forms them: there the normaliser is one of q, not of q / tau.
        set(out.oracle_correction, row,
            weight_correction(state.oracle.maximum, state.oracle.sum, oracle_normalizer * in.tau, scale));
    }
}

template <class T, bool kWithOracle>
__global__ void __launch_bounds__(kBackwardThreads)
    cross_entropy_backward_kernel(CrossEntropyRows<T> in, CrossEntropyStatistics<const Accumulator<T>> saved,
                                  const Accumulator<T>* grad_loss, T* grad_logits, std::int64_t grad_logits_stride) {
    using A = Accumulator<T>;
    const T absent = from_accumulator<T>(-infinity<A>());
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* const grad = grad_logits + row * grad_logits_stride;
        const A weight = is_masked(in.mask, row) ? A(0) : grad_loss[row];
        const A log_normalizer = weight == A(0) ? -infinity<A>() : saved.log_normalizer[row];
        if (log_normalizer == -infinity<A>()) {  // masked, not asked for, or no token is possible
            write_zeros(grad, in.vocab, first, stride);
            continue;
        }
        const T* logits_row = in.logits + row * in.logits_stride;
        const T* q_row = kWithOracle ? in.q + row * in.q_stride : logits_row;
        const A alpha = kWithOracle ? get(in.oracle_weight, row, A(1)) : A(0);
        const A oracle_normalizer = kWithOracle ? saved.oracle_log_normalizer[row] : -infinity<A>();
        const A oracle_weight = oracle_normalizer == -infinity<A>() ? A(0) : alpha;
        const A centre = oracle_normalizer * in.tau;
        const auto policy_of = [&](A x) { return exponential(x - log_normalizer); };
        const auto oracle_of = [&](A value) { return exponential((value - centre) * in.scale); };
        A policy_scale = oracle_weight + (A(1) - alpha), oracle_scale = oracle_weight;
        if (is_coarse(log_normalizer)) {
            policy_scale /= row_total(logits_row, in.vocab, [&](A x, int) { return policy_of(x); });
        } else {
            policy_scale *= saved.correction[row];
        }
        if (oracle_weight != A(0) && is_coarse(oracle_normalizer)) {
            oracle_scale /= row_total(q_row, in.vocab, [&](A value, int) { return oracle_of(value); });
        } else if (oracle_weight != A(0)) {
            oracle_scale *= saved.oracle_correction[row];
        }
        const std::int64_t target = in.targets != nullptr ? in.targets[row] : -1;
        const int lead = store_lead(grad);
        const RowReader<T> logits(logits_row, in.vocab, lead), q(q_row, in.vocab, lead);
        const RowWriter<T> writer(grad, in.vocab, lead);
        for (int j = first; j < logits.vectors(); j += stride) {
            Packet<T> logit_packet[1], q_packet[1] = {};
            logits.template read<1>(j, stride, absent, logit_packet);
            if (kWithOracle && oracle_weight != A(0)) q.template read<1>(j, stride, absent, q_packet);
            A x[kLanes<T>], values[kLanes<T>];
            widen(logit_packet[0], x);
            widen(q_packet[0], values);
            T out[kLanes<T>];
#pragma unroll
            for (int k = 0; k < kLanes<T>; ++k) {
                const A oracle = oracle_scale != A(0) ? oracle_of(values[k]) : A(0);
                A gradient = cross_entropy_gradient(policy_of(x[k]), oracle, policy_scale, oracle_scale);
                if (logits.column(j, k) == target) gradient -= A(1) - alpha;
                out[k] = from_accumulator<T>(weight * gradient);
            }
            writer.write(j, out);
        }
    }
}

template <class T, class Parameters>
CrossEntropyRows<T> cross_entropy_rows(const Parameters& in) {
    using A = Accumulator<T>;
    return {static_cast<const T*>(in.logits.data),
            in.logits.stride,
            static_cast<const T*>(in.q.data),
            in.q.stride,
            in.shape.rows,
            static_cast<int>(in.shape.vocab),
            A(in.tau),
            A(1 / in.tau),
            A(kLogTwoOfE / in.tau),
            in.targets,
            static_cast<const A*>(in.oracle_weight),
            in.shape.mask};
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& in, const Launch& launch) {
    launch_rows("cross_entropy_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const CrossEntropyStatistics<A> out{static_cast<A*>(in.loss), static_cast<A*>(in.log_normalizer),
                                            static_cast<A*>(in.correction), static_cast<A*>(in.oracle_log_normalizer),
                                            static_cast<A*>(in.oracle_correction)};
        const auto kernel =
            in.q.data != nullptr ? cross_entropy_forward_kernel<T, true> : cross_entropy_forward_kernel<T, false>;
        const StrandLaunch plan =
            strand_launch<T, CrossEntropyState<A>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
        SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, cross_entropy_rows<T>(in), plan.strands,
                  out);
    });
}

void cross_entropy_backward(const CrossEntropyBackward& in, const Launch& launch) {
    launch_rows("cross_entropy_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const CrossEntropyStatistics<const A> saved{
            nullptr, static_cast<const A*>(in.log_normalizer), static_cast<const A*>(in.correction),
            static_cast<const A*>(in.oracle_log_normalizer), static_cast<const A*>(in.oracle_correction)};
        const auto kernel =
            in.q.data != nullptr ? cross_entropy_backward_kernel<T, true> : cross_entropy_backward_kernel<T, false>;
        const RowLaunch plan = elementwise_launch(in.shape.rows, in.shape.vocab, kLanes<T>, 1, launch.device);
        SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, cross_entropy_rows<T>(in), saved,
                  static_cast<const A*>(in.grad_loss), static_cast<T*>(in.grad_logits.data), in.grad_logits.stride);
    });
}

}  // namespace softbellman::cuda
