// Critic regression of every row: td_error = q(a) - target, spread = sum_w (q(w) - mean)^2, loss = td_error^2 + smoothness *
// spread (eq 18 with the smoothness penalty), and its gradient.
//
// Forward: one read of [rows, vocab]; a warp a row up to 256 vectors of 16 bytes, a block or several a row beyond
// (split_rows.cuh); each packet's mean and squared deviations are merged into the thread's (Chan), then over the row by a
// tree. Backward: one read, one write.
#include "losses/critic.h"

#include "core/families.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct CriticRows {
    using A = Accumulator<T>;
    const T* q;
    std::int64_t q_stride, rows;
    int vocab;
    const std::int64_t* actions;
    A smoothness;
    const std::uint8_t* mask;
};

template <class T>
__global__ void __launch_bounds__(kForwardThreads<T>)
    critic_forward_kernel(CriticRows<T> in, RowStrands strands, const Accumulator<T>* targets, Accumulator<T>* loss,
                          Accumulator<T>* td_error, Accumulator<T>* mean, Accumulator<T>* mean_low, Accumulator<T>* spread) {
    using A = Accumulator<T>;
    constexpr int kU = kPacketsOneInput;
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                set(loss, row, A(0));
                set(td_error, row, A(0));
                set(mean, row, A(0));
                set(mean_low, row, A(0));
                set(spread, row, A(0));
            }
            continue;
        }
        const T* q = in.q + row * in.q_stride;
        const RowReader<T> reader(q, in.vocab);
        // Values are taken relative to the row's first: exact where they cluster, and where that one is far off it dominates
        // the spread, so that nothing of the others is missed.
        const A first = to_accumulator(q[0]);
        const A origin = first - first == A(0) ? first : A(0);
        const auto read = [&](int begin, int end) {
            Moments<A> moments;
            for (int j = begin + warp_lane(); j < end; j += kU * kWarp) {
                Packet<T> packets[kU];
                reader.template read<kU>(j, kWarp, from_accumulator<T>(-infinity<A>()), packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>];
                    widen(packets[u], x);
#pragma unroll
                    for (int k = 0; k < kLanes<T>; ++k) x[k] -= origin;
                    extend(moments, x);
                }
            }
            return moments;
        };
        const auto merge = [](Moments<A> a, const Moments<A>& b) {
            a.merge(b);
            return a;
        };
        Moments<A> moments;
        if (!reduce_row(strands, row, reader.vectors(), moments, read, merge)) continue;
        const A error = element_or_nan(q, in.actions[row], in.vocab) - targets[row];
        set(loss, row, critic_row_loss(error, moments.deviation, in.smoothness));
        set(td_error, row, error);
        const A row_mean = origin + moments.mean;
        set(mean, row, row_mean);
        set(mean_low, row, lost(origin, moments.mean, row_mean));
        set(spread, row, moments.deviation);
    }
}

template <class T>
__global__ void __launch_bounds__(kBackwardThreads)
    critic_backward_kernel(CriticRows<T> in, const Accumulator<T>* td_error, const Accumulator<T>* mean,
                           const Accumulator<T>* mean_low, const Accumulator<T>* grad_loss, T* grad_q,
                           std::int64_t grad_q_stride) {
    using A = Accumulator<T>;
    constexpr int kU = kPacketsBackward;
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* const grad = grad_q + row * grad_q_stride;
        const A row_grad = is_masked(in.mask, row) ? A(0) : grad_loss[row];
        if (row_grad == A(0)) {
            write_zeros(grad, in.vocab, first, stride);
            continue;
        }
        const A row_mean = mean[row], row_mean_low = mean_low[row];
        const A of_action = critic_gradient_action(td_error[row], row_grad);
        const std::int64_t action = in.actions[row];
        const int lead = store_lead(grad);
        const RowReader<T> reader(in.q + row * in.q_stride, in.vocab, lead);
        const RowWriter<T> writer(grad, in.vocab, lead);
        for (int j = first; j < reader.vectors(); j += kU * stride) {
            Packet<T> packets[kU] = {};
            if (in.smoothness != A(0)) reader.template read<kU>(j, stride, from_accumulator<T>(-infinity<A>()), packets);
#pragma unroll
            for (int u = 0; u < kU; ++u) {
                const int vector = j + u * stride;
                if (vector >= reader.vectors()) break;
                A x[kLanes<T>];
                T out[kLanes<T>];
                widen(packets[u], x);
#pragma unroll
                for (int k = 0; k < kLanes<T>; ++k) {
                    A gradient = critic_gradient_spread(x[k], row_mean, row_mean_low, in.smoothness, row_grad);
                    if (reader.column(vector, k) == action) gradient += of_action;
                    out[k] = from_accumulator<T>(gradient);
                }
                writer.write(vector, out);
            }
        }
    }
}

template <class T, class Parameters>
CriticRows<T> critic_rows(const Parameters& in) {
    return {static_cast<const T*>(in.q.data), in.q.stride,  in.shape.rows, static_cast<int>(in.shape.vocab), in.actions,
            Accumulator<T>(in.smoothness),    in.shape.mask};
}

}  // namespace

void critic_forward(const CriticForward& in, const Launch& launch) {
    launch_rows("critic_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const auto kernel = critic_forward_kernel<T>;
        const StrandLaunch plan = strand_launch<T, Moments<A>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
        SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, critic_rows<T>(in), plan.strands,
                  static_cast<const A*>(in.targets), static_cast<A*>(in.loss), static_cast<A*>(in.td_error),
                  static_cast<A*>(in.mean), static_cast<A*>(in.mean_low), static_cast<A*>(in.spread));
    });
}

void critic_backward(const CriticBackward& in, const Launch& launch) {
    launch_rows("critic_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const auto kernel = critic_backward_kernel<T>;
        const RowLaunch plan = elementwise_launch(in.shape.rows, in.shape.vocab, kLanes<T>, kPacketsBackward, launch.device);
        SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, critic_rows<T>(in), static_cast<const A*>(in.td_error),
                  static_cast<const A*>(in.mean), static_cast<const A*>(in.mean_low), static_cast<const A*>(in.grad_loss),
                  static_cast<T*>(in.grad_q.data), in.grad_q.stride);
    });
}

}  // namespace softbellman::cuda
