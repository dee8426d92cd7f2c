// Soft value of every row, tau * log sum_w prior(w) exp(q(w) / tau) (eq 14), the q of the chosen action, and their gradient;
// the soft Bellman residual of rows that are sequences (eq 16). There the block of row n writes the residual of row n - 1,
// which wants the value it has found, so no block waits for another.
//
// Forward: one read of [rows, vocab]; a warp a row up to 256 vectors of 16 bytes, a block or several a row beyond
// (split_rows.cuh); each thread keeps an online softmax state, merged by a tree. Backward: one read, one write, nothing
// reduced: the saved value and what its rounding did to the weights are enough (a second read of rows whose |value| / tau is
// beyond 2^27).
#include "losses/soft_bellman.h"
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

template <class T>
SoftValueRows<T> soft_value_rows(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, double tau,
                                 const void* prior, std::int64_t prior_stride, const std::int64_t* actions,
                                 const std::uint8_t* mask, const Sequences& sequences = {}) {
    using A = Accumulator<T>;
    return {static_cast<const T*>(q),
            q_stride,
            rows,
            static_cast<int>(vocab),
            A(tau),
            A(1 / tau),
            A(kLogTwoOfE / tau),
            static_cast<const A*>(prior),
            prior_stride,
            actions,
            mask,
            sequences};
}

template <class T>
void launch_forward(const SoftValueRows<T>& in, void* value, void* correction, void* gathered, void* partials,
                    unsigned* tickets, int device, void* stream) {
    using A = Accumulator<T>;
    const auto kernel = in.prior != nullptr ? soft_value_forward_kernel<T, true> : soft_value_forward_kernel<T, false>;
    const StrandLaunch launch =
        strand_launch<T, SoftmaxState<A>>(in.rows, in.vocab, kForwardThreads<T>, partials, tickets, device);
    SB_LAUNCH(kernel, launch.grid, launch.block, launch.shared_bytes, stream, in, launch.strands, static_cast<A*>(value),
              static_cast<A*>(correction), static_cast<A*>(gathered));
}

template <class T>
void launch_backward(const SoftValueRows<T>& in, const void* value, const void* correction, const void* grad_value,
                     const void* grad_gathered, void* grad_q, std::int64_t grad_q_stride, int device, void* stream) {
    using A = Accumulator<T>;
    const auto kernel = in.prior != nullptr ? soft_value_backward_kernel<T, true> : soft_value_backward_kernel<T, false>;
    const RowLaunch launch = elementwise_launch(in.rows, in.vocab, kLanes<T>, kPacketsBackward, device);
    SB_LAUNCH(kernel, launch.grid, launch.block, 0, stream, in, static_cast<const A*>(value),
              static_cast<const A*>(correction), static_cast<const A*>(grad_value), static_cast<const A*>(grad_gathered),
              static_cast<T*>(grad_q), grad_q_stride);
}

}  // namespace

void soft_value_forward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                        const void* prior, std::int64_t prior_stride, const std::int64_t* actions, const std::uint8_t* mask,
                        void* value, void* correction, void* gathered, void* partials, unsigned* tickets, int device,
                        void* stream) {
    check_row_sizes(rows, vocab);
    dispatch_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows == 0) return;
        const DeviceGuard guard(device);
        const auto in = soft_value_rows<T>(q, q_stride, rows, vocab, tau, prior, prior_stride, actions, mask);
        launch_forward<T>(in, value, correction, actions != nullptr ? gathered : nullptr, partials, tickets, device, stream);
        check_launch("soft_value_forward");
    });
}

void soft_value_backward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                         const void* prior, std::int64_t prior_stride, const std::int64_t* actions, const std::uint8_t* mask,
                         const void* value, const void* correction, const void* grad_value, const void* grad_gathered,
                         void* grad_q, std::int64_t grad_q_stride, int device, void* stream) {
    check_row_sizes(rows, vocab);
    dispatch_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows == 0) return;
        const DeviceGuard guard(device);
        const auto in = soft_value_rows<T>(q, q_stride, rows, vocab, tau, prior, prior_stride, actions, mask);
        launch_backward<T>(in, value, correction, grad_value, actions != nullptr ? grad_gathered : nullptr, grad_q,
                           grad_q_stride, device, stream);
        check_launch("soft_value_backward");
    });
}

void soft_bellman_forward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype, double tau,
                          const std::int64_t* actions, const void* rewards, const std::uint8_t* terminal, std::int64_t steps,
                          const std::uint8_t* mask, void* residual, void* value, void* correction, void* partials,
                          unsigned* tickets, int device, void* stream) {
    check_row_sizes(rows, vocab);
    check_steps(rows, steps);
    dispatch_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows == 0) return;
        const DeviceGuard guard(device);
        const Sequences sequences{steps, terminal, rewards, residual, nullptr};
        const auto in = soft_value_rows<T>(q, q_stride, rows, vocab, tau, nullptr, 0, actions, mask, sequences);
        launch_forward<T>(in, value, correction, nullptr, partials, tickets, device, stream);
        check_launch("soft_bellman_forward");
    });
}

void soft_bellman_backward(const void* q, std::int64_t q_stride, std::int64_t rows, std::int64_t vocab, int dtype,
                           double tau, const std::int64_t* actions, const std::uint8_t* terminal, std::int64_t steps,
                           const std::uint8_t* mask, const void* value, const void* correction, const void* grad_residual,
                           void* grad_q, std::int64_t grad_q_stride, int device, void* stream) {
    check_row_sizes(rows, vocab);
    check_steps(rows, steps);
    dispatch_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows == 0) return;
        const DeviceGuard guard(device);
        const Sequences sequences{steps, terminal, nullptr, nullptr, grad_residual};
        const auto in = soft_value_rows<T>(q, q_stride, rows, vocab, tau, nullptr, 0, actions, mask, sequences);
        launch_backward<T>(in, value, correction, nullptr, grad_residual, grad_q, grad_q_stride, device, stream);
        check_launch("soft_bellman_backward");
    });
}

}  // namespace softbellman::cuda
