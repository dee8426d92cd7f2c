// Soft value of every row, tau * log sum_w prior(w) exp(q(w) / tau) (eq 14), the q of the chosen action, and their gradient;
// the soft Bellman residual of rows that are sequences (eq 16). There the block of row n writes the residual of row n - 1,
// which wants the value it has found, so no block waits for another.
//
// Forward: one read of [rows, vocab]; a warp a row up to 256 vectors of 16 bytes, a block or several a row beyond
// (split_rows.cuh); each thread keeps an online softmax state, merged by a tree. Backward: one read, one write, nothing
// reduced: the saved value and what its rounding did to the weights are enough (a second read of rows whose |value| / tau is
// beyond 2^27).
#include "losses/soft_value.h"

#include "core/families.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct SoftValueRows {
    using A = Accumulator<T>;
    const T* q;
    std::int64_t q_stride, rows;
    int vocab;
    A tau, scale, scale_log2;
    const A* prior;
    std::int64_t prior_stride;
    const std::int64_t* actions;
    const std::uint8_t* mask;
    Sequences sequences;

    __device__ __forceinline__ A chosen(std::int64_t row) const {
        return element_or_nan(q + row * q_stride, actions[row], vocab);
    }
    // The numbers of a row, by one thread.
    __device__ __forceinline__ void finish(std::int64_t row, A row_value, A row_correction, A* value, A* correction,
                                           A* gathered) const {
        set(value, row, row_value);
        set(correction, row, row_correction);
        if (gathered != nullptr) gathered[row] = is_masked(mask, row) ? A(0) : chosen(row);
        if (sequences.steps != 0) {
            write_residuals(
                sequences, row, row_value, [this](std::int64_t n) { return chosen(n); },
                [this](std::int64_t n) { return is_masked(mask, n); });
        }
    }
};

// The weights of the elements of vector j; where the row has none, any.
template <class T>
__device__ __forceinline__ void read_prior(const Accumulator<T>* prior, const RowReader<T>& reader, int j,
                                           Accumulator<T> (&weights)[kLanes<T>]) {
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) weights[k] = reader.inside(j, k) ? __ldg(prior + reader.column(j, k)) : 0;
}

template <class T, bool kWithPrior>
__global__ void __launch_bounds__(kForwardThreads<T>)
    soft_value_forward_kernel(SoftValueRows<T> in, RowStrands strands, Accumulator<T>* value, Accumulator<T>* correction,
                              Accumulator<T>* gathered) {
    using A = Accumulator<T>;
    constexpr int kU = kWithPrior ? 1 : kPacketsOneInput;  // the weights of a packet need registers too
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) in.finish(row, A(0), A(1), value, correction, gathered);
            continue;
        }
        const T* q = in.q + row * in.q_stride;
        const A* prior = kWithPrior ? in.prior + row * in.prior_stride : nullptr;
        const RowReader<T> reader(q, in.vocab);
        const auto read = [&](int first, int last) {
            SoftmaxState<A> state;
            for (int j = first + warp_lane(); j < last; j += kU * kWarp) {
                Packet<T> packets[kU];
                reader.template read<kU>(j, kWarp, from_accumulator<T>(-infinity<A>()), packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>];
                    widen(packets[u], x);
                    if (kWithPrior) {
                        A weights[kLanes<T>];
                        read_prior<T>(prior, reader, j + u * kWarp, weights);
                        extend(state, x, weights, in.scale, in.scale_log2);
                    } else {
                        extend(state, x, in.scale, in.scale_log2);
                    }
                }
            }
            return state;
        };
        const A scale = in.scale;
        const auto merge = [scale](SoftmaxState<A> a, const SoftmaxState<A>& b) {
            a.merge(b, scale);
            return a;
        };
        SoftmaxState<A> state;
        if (!reduce_row(strands, row, reader.vectors(), state, read, merge)) continue;
        const A row_value = state.value(in.tau);
        in.finish(row, row_value, state.correction(row_value, scale), value, correction, gathered);
    }
}

template <class T, bool kWithPrior>
__global__ void __launch_bounds__(kBackwardThreads)
    soft_value_backward_kernel(SoftValueRows<T> in, const Accumulator<T>* value, const Accumulator<T>* correction,
                               const Accumulator<T>* grad_value, const Accumulator<T>* grad_gathered, T* grad_q,
                               std::int64_t grad_q_stride) {
    using A = Accumulator<T>;
    constexpr int kU = kPacketsBackward;
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* grad = grad_q + row * grad_q_stride;
        if (is_masked(in.mask, row)) {
            write_zeros(grad, in.vocab, first, stride);
            continue;
        }
        const A row_value = get(value, row, A(0));
        A weight_value = get(grad_value, row, A(0));
        if (!kWithPrior && in.sequences.steps != 0) {
            weight_value = value_upstream<A>(in.sequences, row, [&](std::int64_t n) { return is_masked(in.mask, n); });
        }
        const A weight_action = get(grad_gathered, row, A(0));
        const std::int64_t action = grad_gathered != nullptr ? in.actions[row] : -1;
        const A* prior = kWithPrior ? in.prior + row * in.prior_stride : nullptr;
        const T* q = in.q + row * in.q_stride;
        const auto weigh = [&](A x, A prior_weight) { return soft_value_weight(x, row_value, in.scale, prior_weight); };
        if (weight_value != A(0)) {
            if (is_coarse(row_value * in.scale)) {
                weight_value /=
                    row_total(q, in.vocab, [&](A x, int w) { return weigh(x, kWithPrior ? __ldg(prior + w) : A(1)); });
            } else {
                weight_value *= correction[row];
            }
        }
        const int lead = store_lead(grad);
        const RowReader<T> reader(q, in.vocab, lead);
        const RowWriter<T> writer(grad, in.vocab, lead);
        for (int j = first; j < reader.vectors(); j += kU * stride) {
            Packet<T> packets[kU] = {};
            if (weight_value != A(0)) reader.template read<kU>(j, stride, from_accumulator<T>(-infinity<A>()), packets);
#pragma unroll
            for (int u = 0; u < kU; ++u) {
                const int vector = j + u * stride;
                if (vector >= reader.vectors()) break;
                A x[kLanes<T>], weights[kLanes<T>];
                T out[kLanes<T>];
                widen(packets[u], x);
                if (kWithPrior) read_prior<T>(prior, reader, vector, weights);
#pragma unroll
                for (int k = 0; k < kLanes<T>; ++k) {
                    A gradient = A(0);
                    if (weight_value != A(0)) gradient = weight_value * weigh(x[k], kWithPrior ? weights[k] : A(1));
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
            static_cast<const A*>(prior.data),
            prior.stride,
            in.actions,
            in.shape.mask,
            sequences};
}

template <class T>
void launch_forward(const SoftValueRows<T>& in, void* value, void* correction, void* gathered, const Launch& launch) {
    using A = Accumulator<T>;
    const auto kernel = in.prior != nullptr ? soft_value_forward_kernel<T, true> : soft_value_forward_kernel<T, false>;
    const StrandLaunch plan = strand_launch<T, SoftmaxState<A>>(in.rows, in.vocab, kForwardThreads<T>, launch);
    SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, in, plan.strands, static_cast<A*>(value),
              static_cast<A*>(correction), static_cast<A*>(gathered));
}

template <class T, class Parameters>
void launch_backward(const SoftValueRows<T>& in, const Parameters& saved, const void* grad_value, const void* grad_gathered,
                     const Launch& launch) {
    using A = Accumulator<T>;
    const auto kernel = in.prior != nullptr ? soft_value_backward_kernel<T, true> : soft_value_backward_kernel<T, false>;
    const RowLaunch plan = elementwise_launch(in.rows, in.vocab, kLanes<T>, kPacketsBackward, launch.device);
    SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, in, static_cast<const A*>(saved.value),
              static_cast<const A*>(saved.correction), static_cast<const A*>(grad_value),
              static_cast<const A*>(grad_gathered), static_cast<T*>(saved.grad_q.data), saved.grad_q.stride);
}

}  // namespace

void soft_value_forward(const SoftValueForward& in, const Launch& launch) {
    launch_rows("soft_value_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_forward(soft_value_rows<T>(in, in.prior, {}), in.value, in.correction, in.gathered, launch);
    });
}

void soft_value_backward(const SoftValueBackward& in, const Launch& launch) {
    launch_rows("soft_value_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_backward(soft_value_rows<T>(in, in.prior, {}), in, in.grad_value, in.grad_gathered, launch);
    });
}

void soft_bellman_forward(const SoftBellmanForward& in, const Launch& launch) {
    launch_rows("soft_bellman_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_forward(soft_value_rows<T>(in, {}, in.sequences), in.value, in.correction, nullptr, launch);
    });
}

void soft_bellman_backward(const SoftBellmanBackward& in, const Launch& launch) {
    launch_rows("soft_bellman_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch_backward(soft_value_rows<T>(in, {}, in.sequences), in, nullptr, in.sequences.grad_residual, launch);
    });
}

}  // namespace softbellman::cuda
