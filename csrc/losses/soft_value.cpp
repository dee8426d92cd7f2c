// Soft value tau * log sum_w pi_0(w) exp(q(w) / tau) and its gradient (eq 14), and the soft Bellman residual of sequences.
//
// Forward: one read of q and of the prior's logits in one sweep, in which the shifts follow the maxima from afar. Backward:
// one read of each and one write of the gradient in one sweep. What rounding took from the saved normaliser, large when
// |value| / tau is, does not reach the gradient: the forward pass saves by how much it moves every weight. A row belongs to
// one thread.
#include "losses/soft_value.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

template <bool kFused>
struct Forward : SoftValueForward {
    Sequences sequences;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        A* const out = static_cast<A*>(gathered);
        const auto chosen = [&](int64_t n) { return to_accumulator(row_of<T>(q, n)[actions[n]]); };
        for (int64_t n = first_row; n < last_row; ++n) {
            const bool masked = is_masked(shape.mask, n);
            if (actions != nullptr && out != nullptr) out[n] = masked ? A(0) : chosen(n);
            Values values;
            if (!masked) values = row_values<T>(n);
            const Rounded<A> joint(values.maximum, values.above_maximum);
            const A row_value = prior.data == nullptr ? joint.high : value_under_prior<A>(values);
            static_cast<A*>(value)[n] = row_value;
            static_cast<A*>(correction)[n] = weight_correction(joint, 1.0 / tau);
            if (normalizer != nullptr) static_cast<A*>(normalizer)[n] = joint.high;
            if (sequences.steps == 0) continue;
            write_residuals(sequences, n, row_value, chosen, [&](int64_t row) { return is_masked(shape.mask, row); });
        }
    }

    // tau log sum_w exp(y / tau) is maximum + above_maximum, log sum_w exp(prior) is prior_maximum + prior_log_sum.
    struct Values {
        double maximum = 0.0, above_maximum = 0.0, prior_maximum = 0.0, prior_log_sum = 0.0;
    };

    template <class A>
    SB_INLINE A value_under_prior(const Values& values) const {
        if (values.maximum == -infinity<double>()) return -infinity<A>();
        const double maximum = values.maximum - tau * values.prior_maximum;
        return static_cast<A>(maximum + (values.above_maximum - tau * values.prior_log_sum));
    }

    template <class T>
    SB_INLINE Values row_values(int64_t n) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A, kFused> exponential_of(scale), prior_exponential(1.0);
        BlockBuffer<A> q_buffer, prior_buffer;
        A maximum = -infinity<A>(), prior_maximum = -infinity<A>();  // or near them
        double total = 0.0, prior_total = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer.data);
            if (prior.data != nullptr) {
                const A* weights = load_block<T, A>(row_of<T>(prior, n), first, count, -infinity<A>(), prior_buffer.data);
                add_exponentials(weights, padded, 1.0, prior_exponential, prior_maximum, prior_total);
                x = add_prior(x, weights, static_cast<A>(tau), padded, q_buffer.data);
            }
            add_exponentials(x, padded, scale, exponential_of, maximum, total);
        }
        const bool finite = maximum != -infinity<A>() && maximum != infinity<A>();
        Values values;
        values.maximum = static_cast<double>(maximum);
        values.above_maximum = finite ? tau * std::log(total) : 0.0;
        values.prior_maximum = static_cast<double>(prior_maximum);
        values.prior_log_sum = prior.data != nullptr ? std::log(prior_total) : 0.0;
        return values;
    }
};

template <bool kFused>
struct Backward : SoftValueBackward {
    Sequences sequences;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_q, n);
            if (is_masked(shape.mask, n)) {
                store_zeros(gradient, shape.vocab);
                continue;
            }
            A upstream = grad_value != nullptr ? static_cast<const A*>(grad_value)[n] : A(0);
            if (sequences.steps != 0) {
                upstream = value_upstream<A>(sequences, n, [&](int64_t row) { return is_masked(shape.mask, row); });
            }
            const A saved = static_cast<const A*>(normalizer)[n];
            A softmax_part = A(0);  // of the chosen action
            if (upstream == A(0) || saved == -infinity<A>()) {
                store_zeros(gradient, shape.vocab);
            } else {
                softmax_part = row_gradient<T>(n, upstream, saved, gradient);
            }
            if (actions != nullptr && grad_gathered != nullptr) {
                gradient[actions[n]] = from_accumulator<T>(softmax_part + static_cast<const A*>(grad_gathered)[n]);
            }
        }
    }

    // Writes the gradient of a row; returns the chosen action's before it is rounded to the data's type.
    template <class T>
    SB_INLINE Accumulator<T> row_gradient(int64_t n, Accumulator<T> upstream, Accumulator<T> saved, T* gradient) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A, kFused> exponential_of(scale);
        BlockBuffer<A> buffer;
        const T* const row = row_of<T>(q, n);
        const A kept = static_cast<const A*>(correction)[n];
        if (prior.data == nullptr) {
            const auto of_row =
                row_normalizer<A>(RowBlocks<T, A>{row}, shape.vocab, saved, kept, scale, exponential_of, buffer.data);
            const A shift = of_row.shift, factor = static_cast<A>(static_cast<double>(upstream) * of_row.factor);
            // Read before the gradient may overwrite it.
            const A of_action = actions != nullptr ? exponential_of(to_accumulator(row[actions[n]]) - shift) * factor : A(0);
            SB_INDEPENDENT
            for (int64_t w = 0; w < shape.vocab; ++w) {
                gradient[w] = from_accumulator<T>(exponential_of(to_accumulator(row[w]) - shift) * factor);
            }
            return of_action;
        }
        const T* const weights = row_of<T>(prior, n);
        const A of_prior = static_cast<A>(tau);
        const auto of_row = row_normalizer<A>(PriorBlocks<T, A>{row, weights, of_prior}, shape.vocab, saved, kept, scale,
                                              exponential_of, buffer.data);
        const A shift = of_row.shift, factor = static_cast<A>(static_cast<double>(upstream) * of_row.factor);
        const auto weigh = [&](int64_t w) {
            return exponential_of(to_accumulator(row[w]) + of_prior * to_accumulator(weights[w]) - shift) * factor;
        };
        const A of_action = actions != nullptr ? weigh(actions[n]) : A(0);
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) gradient[w] = from_accumulator<T>(weigh(w));
        return of_action;
    }
};

}  // namespace

void soft_value_forward(const SoftValueForward& in, int threads) {
    run_kernel<Forward>(in.shape, threads, in, Sequences{});
}

void soft_value_backward(const SoftValueBackward& in, int threads) {
    run_kernel<Backward>(in.shape, threads, in, Sequences{});
}

void soft_bellman_forward(const SoftBellmanForward& in, int threads) {
    const SoftValueForward values{in.shape, in.q, in.tau, {}, in.actions, in.value, nullptr, in.correction, nullptr};
    run_kernel<Forward>(in.shape, threads, values, in.sequences);
}

void soft_bellman_backward(const SoftBellmanBackward& in, int threads) {
    const SoftValueBackward values{
        in.shape, in.q, in.tau, {}, in.actions, in.value, in.correction, nullptr, in.sequences.grad_residual, in.grad_q};
    run_kernel<Backward>(in.shape, threads, values, in.sequences);
}

}  // namespace softbellman::cpu
