// Soft value of every row, tau * log sum_w pi_0(w) exp(q(w) / tau) (eq 14), the q of the chosen action, and their gradient;
// the soft Bellman residual of rows that are sequences (eq 16). There the block of row n writes the residual of row n - 1,
// which wants the value it has found, so no block waits for another.
//
// Forward: one read of q and of the prior's logits, where there are any; a warp a row up to 256 vectors of 16 bytes, a block
// or several a row beyond (split_rows.cuh); each thread keeps an online softmax state, merged by a tree. Backward: one read,
// one write, nothing reduced: the saved normaliser and what its rounding did to the weights are enough (a second read of
// rows whose |value| / tau is beyond 2^27).
#include "losses/soft_value.h"

#include "core/families.cuh"

namespace softbellman::cuda {
namespace {

template <class A>
struct SoftValueStatistics {
    A *value, *normalizer, *correction, *gathered;
};

template <class T>
struct SoftValueRows {
    using A = Accumulator<T>;
    const T* q;
    std::int64_t q_stride, rows;
    int vocab;
    A tau, scale, scale_log2;
    const T* prior;
    std::int64_t prior_stride;
    const std::int64_t* actions;
    const std::uint8_t* mask;
    Sequences sequences;

    __device__ __forceinline__ A chosen(std::int64_t row) const {
        return element_or_nan(q + row * q_stride, actions[row], vocab);
    }
    // The numbers of a row, by one thread.
    __device__ __forceinline__ void finish(std::int64_t row, A row_value, A row_normalizer, A row_correction,
                                           const SoftValueStatistics<A>& out) const {
        set(out.value, row, row_value);
        set(out.normalizer, row, row_normalizer);
        set(out.correction, row, row_correction);
        if (out.gathered != nullptr) out.gathered[row] = is_masked(mask, row) ? A(0) : chosen(row);
        if (sequences.steps != 0) {
            write_residuals(
                sequences, row, row_value, [this](std::int64_t n) { return chosen(n); },
                [this](std::int64_t n) { return is_masked(mask, n); });
        }
    }
};

// Of q + tau prior with 1 / tau for scale, and of the prior.
template <class A>
struct PriorState {
    SoftmaxState<A> joint, prior;

    SB_INLINE void merge(const PriorState& other, A scale) {
        joint.merge(other.joint, scale);
        prior.merge(other.prior, A(1));
    }
};

template <class A>
__device__ __forceinline__ const SoftmaxState<A>& joint_state(const SoftmaxState<A>& state) {
    return state;
}
template <class A>
__device__ __forceinline__ const SoftmaxState<A>& joint_state(const PriorState<A>& state) {
    return state.joint;
}

template <class A>
__device__ __forceinline__ A value_of(const SoftmaxState<A>& state, A tau) {
    return state.value(tau);
}
template <class A>
__device__ __forceinline__ A value_of(const PriorState<A>& state, A tau) {
    const A maximum = state.joint.maximum;
    if (maximum == -infinity<A>() || maximum == infinity<A>()) return maximum;
    return (maximum - tau * state.prior.maximum) + tau * (logarithm(state.joint.sum) - logarithm(state.prior.sum));
}

template <class T, bool kWithPrior>
using SoftValueState = std::conditional_t<kWithPrior, PriorState<Accumulator<T>>, SoftmaxState<Accumulator<T>>>;

template <class T, bool kWithPrior>
__global__ void __launch_bounds__(kForwardThreads<T>)
    soft_value_forward_kernel(SoftValueRows<T> in, RowStrands strands, SoftValueStatistics<Accumulator<T>> out) {
    using A = Accumulator<T>;
    using State = SoftValueState<T, kWithPrior>;
    // Two packets of 16-bit numbers of both inputs, widened, would not fit the registers.
    constexpr int kU = !kWithPrior ? kPacketsOneInput : sizeof(T) == 2 ? 1 : kPacketsTwoInputs;
    const T absent = from_accumulator<T>(-infinity<A>());
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) in.finish(row, A(0), A(0), A(1), out);
            continue;
        }
        const T* q = in.q + row * in.q_stride;
        const RowReader<T> reader(q, in.vocab);
        const RowReader<T> prior_reader(kWithPrior ? in.prior + row * in.prior_stride : q, in.vocab);
        const auto read = [&](int first, int last) {
            State state;
            for (int j = first + warp_lane(); j < last; j += kU * kWarp) {
                Packet<T> packets[kU], prior_packets[kU];
                reader.template read<kU>(j, kWarp, absent, packets);
                if (kWithPrior) prior_reader.template read<kU>(j, kWarp, absent, prior_packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>];
                    widen(packets[u], x);
                    if constexpr (kWithPrior) {
                        A prior[kLanes<T>];
                        widen(prior_packets[u], prior);
                        extend(state.prior, prior, A(1), A(kLogTwoOfE));
                        add_prior(x, prior, in.tau);
                        extend(state.joint, x, in.scale, in.scale_log2);
                    } else {
                        extend(state, x, in.scale, in.scale_log2);
                    }
                }
            }
            return state;
        };
        const A scale = in.scale;
        const auto merge = [scale](State a, const State& b) {
            a.merge(b, scale);
            return a;
        };
        State state;
        if (!reduce_row(strands, row, reader.vectors(), state, read, merge)) continue;
        const SoftmaxState<A>& joint = joint_state(state);
        const A normalizer = joint.value(in.tau);
        in.finish(row, value_of(state, in.tau), normalizer, joint.correction(normalizer, scale), out);
    }
}

template <class T, bool kWithPrior>
__global__ void __launch_bounds__(kBackwardThreads)
    soft_value_backward_kernel(SoftValueRows<T> in, const Accumulator<T>* normalizer, const Accumulator<T>* correction,
                               const Accumulator<T>* grad_value, const Accumulator<T>* grad_gathered, T* grad_q,
                               std::int64_t grad_q_stride) {
    using A = Accumulator<T>;
    constexpr int kU = kWithPrior && sizeof(T) == 2 ? 1 : kPacketsBackward;
    const T absent = from_accumulator<T>(-infinity<A>());
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* grad = grad_q + row * grad_q_stride;
        if (is_masked(in.mask, row)) {
            write_zeros(grad, in.vocab, first, stride);
            continue;
        }
        const A row_normalizer = normalizer[row];
        A weight_value = get(grad_value, row, A(0));
        if (!kWithPrior && in.sequences.steps != 0) {
            weight_value = value_upstream<A>(in.sequences, row, [&](std::int64_t n) { return is_masked(in.mask, n); });
        }
        const A weight_action = get(grad_gathered, row, A(0));
        const std::int64_t action = grad_gathered != nullptr ? in.actions[row] : -1;
        const T* q = in.q + row * in.q_stride;
        const T* prior = kWithPrior ? in.prior + row * in.prior_stride : q;
        const auto weigh = [&](A x) { return soft_value_weight(x, row_normalizer, in.scale); };
        if (weight_value != A(0)) {
            if (is_coarse(row_normalizer * in.scale)) {
                weight_value /= row_total(
                    q, in.vocab, [&](A x, int w) { return weigh(kWithPrior ? x + in.tau * to_accumulator(prior[w]) : x); });
            } else {
                weight_value *= correction[row];
            }
        }
        const int lead = store_lead(grad);
        const RowReader<T> reader(q, in.vocab, lead), prior_reader(prior, in.vocab, lead);
        const RowWriter<T> writer(grad, in.vocab, lead);
        for (int j = first; j < reader.vectors(); j += kU * stride) {
            Packet<T> packets[kU] = {}, prior_packets[kU] = {};
            if (weight_value != A(0)) reader.template read<kU>(j, stride, absent, packets);
            if (kWithPrior && weight_value != A(0)) prior_reader.template read<kU>(j, stride, absent, prior_packets);
#pragma unroll
            for (int u = 0; u < kU; ++u) {
                const int vector = j + u * stride;
                if (vector >= reader.vectors()) break;
                A x[kLanes<T>];
                T out[kLanes<T>];
                widen(packets[u], x);
                if (kWithPrior) {
                    A of_prior[kLanes<T>];
                    widen(prior_packets[u], of_prior);
                    add_prior(x, of_prior, in.tau);
                }
#pragma unroll
                for (int k = 0; k < kLanes<T>; ++k) {
                    A gradient = A(0);
                    if (weight_value != A(0)) gradient = weight_value * weigh(x[k]);
                    if (reader.column(vector, k) == action) gradient += weight_action;
                    out[k] = from_accumulator<T>(gradient);
                }
                writer.write(vector, out);
            }
        }
    }
}

template <class T, class Parameters>
SoftValueRows<T> soft_value_rows(const Parameters& in, Matrix prior, const Sequences& sequences) {
    using A = Accumulator<T>;
    return {static_cast<const T*>(in.q.data),
            in.q.stride,
            in.shape.rows,
            static_cast<int>(in.shape.vocab),
            A(in.tau),
            A(1 / in.tau),
            A(kLogTwoOfE / in.tau),
            static_cast<const T*>(prior.data),
            prior.stride,
            in.actions,
            in.shape.mask,
            sequences};
}

template <class T, bool kWithPrior>
void launch_forward(const SoftValueRows<T>& in, const SoftValueStatistics<Accumulator<T>>& out, const Launch& launch) {
    const auto kernel = soft_value_forward_kernel<T, kWithPrior>;
    const StrandLaunch plan = strand_launch<T, SoftValueState<T, kWithPrior>>(in.rows, in.vocab, kForwardThreads<T>, launch);
    SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, in, plan.strands, out);
}

template <class T, class Parameters>
void launch_backward(const SoftValueRows<T>& in, const Parameters& saved, const void* normalizer, const void* grad_value,
                     const void* grad_gathered, const Launch& launch) {
    using A = Accumulator<T>;
    const auto kernel = in.prior != nullptr ? soft_value_backward_kernel<T, true> : soft_value_backward_kernel<T, false>;
    const RowLaunch plan = elementwise_launch(in.rows, in.vocab, kLanes<T>, kPacketsBackward, launch.device);
    SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, in, static_cast<const A*>(normalizer),
              static_cast<const A*>(saved.correction), static_cast<const A*>(grad_value),
              static_cast<const A*>(grad_gathered), static_cast<T*>(saved.grad_q.data), saved.grad_q.stride);
}

}  // namespace

void soft_value_forward(const SoftValueForward& in, const Launch& launch) {
    launch_rows("soft_value_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const auto rows = soft_value_rows<T>(in, in.prior, {});
        const SoftValueStatistics<A> out{static_cast<A*>(in.value), static_cast<A*>(in.normalizer),
                                         static_cast<A*>(in.correction), static_cast<A*>(in.gathered)};
        if (rows.prior != nullptr)
            launch_forward<T, true>(rows, out, launch);
        else
            launch_forward<T, false>(rows, out, launch);
    });
}

void soft_value_backward(const SoftValueBackward& in, const Launch& launch) {
    launch_rows("soft_value_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_backward(soft_value_rows<T>(in, in.prior, {}), in, in.normalizer, in.grad_value, in.grad_gathered, launch);
    });
}

void soft_bellman_forward(const SoftBellmanForward& in, const Launch& launch) {
    launch_rows("soft_bellman_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const SoftValueStatistics<A> out{static_cast<A*>(in.value), nullptr, static_cast<A*>(in.correction), nullptr};
        launch_forward<T, false>(soft_value_rows<T>(in, {}, in.sequences), out, launch);
    });
}

void soft_bellman_backward(const SoftBellmanBackward& in, const Launch& launch) {
    launch_rows("soft_bellman_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_backward(soft_value_rows<T>(in, {}, in.sequences), in, in.value, nullptr, in.sequences.grad_residual, launch);
    });
}

}  // namespace softbellman::cuda
