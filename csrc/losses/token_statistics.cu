// Log-probability of a target, entropy and log-normaliser of pi = softmax(logits), and the gradient of a sum of them.
//
// Forward: one read of the logits; a warp a row up to 256 vectors of 16 bytes, a block or several a row beyond
// (split_rows.cuh); the sums of pi and pi log pi share one running maximum. Backward: one read and one write, nothing
// reduced (a second read of rows whose normaliser is beyond 2^27).
#include "losses/token_statistics.h"

#include "core/families.cuh"
#include "losses/row_states.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct TokenRows {
    const T* logits;
    std::int64_t logits_stride, rows;
    int vocab;
    const std::int64_t* targets;  // null: none
    const std::uint8_t* mask;
};

template <class A>
struct TokenStatistics {
    A *log_prob, *entropy, *log_normalizer, *correction;
};

template <class T>
__global__ void __launch_bounds__(kForwardThreads<T>)
    token_statistics_forward_kernel(TokenRows<T> in, RowStrands strands, TokenStatistics<Accumulator<T>> out) {
    using A = Accumulator<T>;
    constexpr int kU = sizeof(T) == 2 ? 1 : kPacketsTwoInputs;  // the products of weights and logits need registers too
    const T absent = from_accumulator<T>(-infinity<A>());
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                set(out.log_prob, row, A(0));
                set(out.entropy, row, A(0));
                set(out.log_normalizer, row, A(0));
                set(out.correction, row, A(1));
            }
            continue;
        }
        const T* logits_row = in.logits + row * in.logits_stride;
        const RowReader<T> logits(logits_row, in.vocab);
        const auto read = [&](int first, int last) {
            EntropyState<A> state;
            for (int j = first + warp_lane(); j < last; j += kU * kWarp) {
                Packet<T> packets[kU];
                logits.template read<kU>(j, kWarp, absent, packets);
#pragma unroll
                for (int u = 0; u < kU; ++u) {
                    A x[kLanes<T>];
                    widen(packets[u], x);
                    extend(state, x);
                }
            }
            return state;
        };
        const auto merge = [](EntropyState<A> a, const EntropyState<A>& b) {
            a.merge(b);
            return a;
        };
        EntropyState<A> state;
        if (!reduce_row(strands, row, logits.vectors(), state, read, merge)) continue;
        const bool exists = state.maximum != -infinity<A>();
        const A log_sum = exists ? logarithm(state.sum) : A(0);
        const A normalizer = state.maximum + log_sum;
        A log_prob = A(0);
        if (exists && in.targets != nullptr)
            log_prob = (element_or_nan(logits_row, in.targets[row], in.vocab) - state.maximum) - log_sum;
        set(out.log_prob, row, log_prob);
        set(out.entropy, row, exists ? state.entropy(log_sum) : A(0));
        set(out.log_normalizer, row, normalizer);
        set(out.correction, row, weight_correction(state.maximum, state.sum, normalizer, A(1)));
    }
}

template <class T>
struct TokenGradients {
    using A = Accumulator<T>;
    const A *grad_log_prob, *grad_entropy, *grad_log_normalizer;  // incoming, null where absent
    T* grad_logits;
    std::int64_t grad_logits_stride;
};

template <class T>
__global__ void __launch_bounds__(kBackwardThreads)
    token_statistics_backward_kernel(TokenRows<T> in, TokenStatistics<const Accumulator<T>> saved, TokenGradients<T> out) {
    using A = Accumulator<T>;
    const T absent = from_accumulator<T>(-infinity<A>());
    const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* const grad = out.grad_logits + row * out.grad_logits_stride;
        const bool real = !is_masked(in.mask, row);
        const A of_target = real ? get(out.grad_log_prob, row, A(0)) : A(0);
        const A of_entropy = real ? get(out.grad_entropy, row, A(0)) : A(0);
        const A of_normalizer = real ? get(out.grad_log_normalizer, row, A(0)) : A(0);
        const bool arrives = of_target != A(0) || of_entropy != A(0) || of_normalizer != A(0);
        const A log_normalizer = arrives ? saved.log_normalizer[row] : -infinity<A>();
        if (log_normalizer == -infinity<A>()) {  // masked, not asked for, or no token is possible
            write_zeros(grad, in.vocab, first, stride);
            continue;
        }
        const T* logits_row = in.logits + row * in.logits_stride;
        A log_mass = -logarithm(saved.correction[row]);  // of the weights exp(x - log_normalizer)
        if (is_coarse(log_normalizer))
            log_mass = logarithm(row_total(logits_row, in.vocab, [&](A x, int) { return exponential(x - log_normalizer); }));
        const A entropy = saved.entropy[row], level = of_normalizer - of_target;
        const std::int64_t target = of_target != A(0) && in.targets != nullptr ? in.targets[row] : -1;
        const int lead = store_lead(grad);
        const RowReader<T> logits(logits_row, in.vocab, lead);
        const RowWriter<T> writer(grad, in.vocab, lead);
        for (int j = first; j < logits.vectors(); j += stride) {
            Packet<T> packet[1];
            logits.template read<1>(j, stride, absent, packet);
            A x[kLanes<T>];
            widen(packet[0], x);
            T to_logits[kLanes<T>];
#pragma unroll
            for (int k = 0; k < kLanes<T>; ++k) {
                const A log_probability = (x[k] - log_normalizer) - log_mass;
                const A probability = x[k] == -infinity<A>() ? A(0) : exponential(log_probability);
                A gradient = token_statistics_gradient(probability, log_probability, entropy, level, of_entropy);
                if (logits.column(j, k) == target) gradient += of_target;
                to_logits[k] = from_accumulator<T>(gradient);
            }
            writer.write(j, to_logits);
        }
    }
}

template <class T, class Parameters>
TokenRows<T> token_rows(const Parameters& in) {
    return {static_cast<const T*>(in.logits.data), in.logits.stride, in.shape.rows,
            static_cast<int>(in.shape.vocab),      in.targets,       in.shape.mask};
}

}  // namespace

void token_statistics_forward(const TokenStatisticsForward& in, const Launch& launch) {
    launch_rows("token_statistics_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const TokenStatistics<A> out{static_cast<A*>(in.log_prob), static_cast<A*>(in.entropy),
                                     static_cast<A*>(in.log_normalizer), static_cast<A*>(in.correction)};
        const StrandLaunch plan =
            strand_launch<T, EntropyState<A>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
        SB_LAUNCH(token_statistics_forward_kernel<T>, plan.grid, plan.block, plan.shared_bytes, launch.stream,
                  token_rows<T>(in), plan.strands, out);
    });
}

void token_statistics_backward(const TokenStatisticsBackward& in, const Launch& launch) {
    launch_rows("token_statistics_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const TokenStatistics<const A> saved{nullptr, static_cast<const A*>(in.entropy),
                                             static_cast<const A*>(in.log_normalizer), static_cast<const A*>(in.correction)};
        const TokenGradients<T> out{static_cast<const A*>(in.grad_log_prob), static_cast<const A*>(in.grad_entropy),
                                    static_cast<const A*>(in.grad_log_normalizer), static_cast<T*>(in.grad_logits.data),
                                    in.grad_logits.stride};
        const RowLaunch plan = elementwise_launch(in.shape.rows, in.shape.vocab, kLanes<T>, 1, launch.device);
        SB_LAUNCH(token_statistics_backward_kernel<T>, plan.grid, plan.block, 0, launch.stream, token_rows<T>(in), saved,
                  out);
    });
}

}  // namespace softbellman::cuda
