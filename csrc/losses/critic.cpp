// Critic regression: td_error = q(a) - target, spread = sum_w (q - mean)^2, loss = td_error^2 + smoothness * spread (eq 18
// with the smoothness penalty), and the gradient to q.
//
// Forward: one read of q; mean and spread of a block are taken in cache and merged by Chan's rule in double. Backward: one
// read and one write in one sweep, about the mean as it was before it was rounded. Actions with q = -inf do not exist: they
// are in neither the mean nor the spread. A row belongs to one thread.
#include "losses/critic.h"

#include "core/block.h"
#include "core/moments.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

// Count and sum of q - shift over existing actions.
template <class A>
SB_INLINE void sum_shifted(const A* x, int64_t padded, A shift, double& count, double& sum) {
    A counts[kLanes], sums[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) counts[l] = sums[l] = A(0);
    for (int64_t i = 0; i < padded; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) {
            const bool exists = x[i + l] != -infinity<A>();
            counts[l] += exists ? A(1) : A(0);
            sums[l] += exists ? x[i + l] - shift : A(0);
        }
    }
    count = fold_lanes<A, kLanes>(counts);
    sum = fold_lanes<A, kLanes>(sums);
}

template <class A>
SB_INLINE Moments<double> block_moments(const A* x, int64_t padded, A reference) {
    Moments<double> block;
    double sum = 0.0;
    sum_shifted(x, padded, reference, block.count, sum);
    if (block.count == 0.0) return block;
    const double mean = static_cast<double>(reference) + sum / block.count;
    const A centre = static_cast<A>(mean);
    A squares[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) squares[l] = A(0);
    for (int64_t i = 0; i < padded; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) {
            const A deviation = x[i + l] != -infinity<A>() ? x[i + l] - centre : A(0);
            squares[l] += deviation * deviation;
        }
    }
    // sum (x - mean)^2 = sum (x - centre)^2 - count (mean - centre)^2, the second term being of rounding's size.
    const double offset = mean - static_cast<double>(centre);
    const double deviation = fold_lanes<A, kLanes>(squares) - block.count * offset * offset;
    block.mean = mean;
    block.deviation = deviation < 0.0 ? 0.0 : deviation;
    return block;
}

template <bool>
struct Forward : CriticForward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        BlockBuffer<A> buffer;
        for (int64_t n = first_row; n < last_row; ++n) {
            Moments<double> moments;
            double error = 0.0, row_loss = 0.0;
            if (!is_masked(shape.mask, n)) {
                const T* row = row_of<T>(q, n);
                const A first_q = to_accumulator(row[0]);
                const A reference = std::fabs(first_q) < infinity<A>() ? first_q : A(0);
                for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
                    const int64_t count = std::min(shape.vocab - first, kBlock<A>);
                    const A* x = load_block<T, A>(row, first, count, -infinity<A>(), buffer.data);
                    moments.merge(block_moments(x, round_to_lanes(count), reference));
                }
                error = static_cast<double>(to_accumulator(row[actions[n]])) -
                        static_cast<double>(static_cast<const A*>(targets)[n]);
                row_loss = critic_row_loss(error, moments.deviation, smoothness);
            }
            const Rounded<A> row_mean(moments.mean, 0.0);
            static_cast<A*>(loss)[n] = static_cast<A>(row_loss);
            static_cast<A*>(td_error)[n] = static_cast<A>(error);
            static_cast<A*>(mean)[n] = row_mean.high;
            static_cast<A*>(mean_low)[n] = row_mean.low;
            static_cast<A*>(spread)[n] = static_cast<A>(moments.deviation);
        }
    }
};

template <bool>
struct Backward : CriticBackward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_q, n);
            const A upstream = is_masked(shape.mask, n) ? A(0) : static_cast<const A*>(grad_loss)[n];
            A spread_part = A(0);  // of the chosen action
            if (upstream == A(0) || smoothness == 0.0) {
                store_zeros(gradient, shape.vocab);
            } else {
                spread_part = spread_gradient<T>(n, upstream, gradient);
            }
            if (upstream == A(0)) continue;
            const A action_part = critic_gradient_action(static_cast<const A*>(td_error)[n], upstream);
            gradient[actions[n]] = from_accumulator<T>(spread_part + action_part);
        }
    }

    // Writes the spread's part of a row's gradient; returns the chosen action's before it is rounded to the data's type.
    template <class T, class A>
    SB_INLINE A spread_gradient(int64_t n, A upstream, T* gradient) const {
        const T* row = row_of<T>(q, n);
        const A centre = static_cast<const A*>(mean)[n], rest = static_cast<const A*>(mean_low)[n];
        const A factor = static_cast<A>(2.0 * smoothness * static_cast<double>(upstream));
        const A chosen = to_accumulator(row[actions[n]]);  // before the gradient may overwrite it
        const auto slope = [=](A x) { return x == -infinity<A>() ? A(0) : factor * ((x - centre) - rest); };
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) gradient[w] = from_accumulator<T>(slope(to_accumulator(row[w])));
        return slope(chosen);
    }
};

}  // namespace

void critic_forward(const CriticForward& in, int threads) {
    run_kernel<Forward>(in.shape, threads, in);
}

void critic_backward(const CriticBackward& in, int threads) {
    run_kernel<Backward>(in.shape, threads, in);
}

}  // namespace softbellman::cpu
