// Soft value tau * log sum_w prior(w) exp(q(w) / tau) and its gradient (eq 14), and the soft Bellman residual of sequences.
//
// Forward: one read of q; without a prior one sweep, in which the shift follows the maximum from afar, else two sweeps of
// each block inside the first-level cache. Backward: one read of q and one write of the gradient in one sweep. What rounding
// took from the saved value, large when |value| / tau is, does not reach the gradient: the forward pass saves by how much it
// moves every weight. A row belongs to one thread.
#include "losses/soft_value.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

// q where the prior allows the action, -inf elsewhere; `x` may be `buffer`.
template <class A>
SB_INLINE const A* allowed(const A* x, const A* prior, int64_t padded, A* buffer) {
    for (int64_t i = 0; i < padded; ++i) buffer[i] = prior[i] > A(0) ? x[i] : -infinity<A>();
    return buffer;
}

// Sum of prior(w) exp(scale (x - shift)).
template <class A, class Exp>
SB_INLINE double sum_weighted(const A* x, const A* prior, int64_t padded, A shift, Exp exponential_of) {
    A lanes[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = A(0);
    for (int64_t i = 0; i < padded; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) lanes[l] += prior[i + l] * exponential_of(x[i + l] - shift);
    }
    return fold_lanes<A, kLanes>(lanes);
}

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
            const Rounded<A> exact = masked ? Rounded<A>(0.0, 0.0) : row_value<T>(n);
            static_cast<A*>(value)[n] = exact.high;
            static_cast<A*>(correction)[n] = weight_correction(exact, 1.0 / tau);
            if (sequences.steps == 0) continue;
            write_residuals(sequences, n, exact.high, chosen, [&](int64_t row) { return is_masked(shape.mask, row); });
        }
    }

    template <class T>
    SB_INLINE Rounded<Accumulator<T>> row_value(int64_t n) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A, kFused> exponential_of(scale);
        BlockBuffer<A> q_buffer, prior_buffer;
        A maximum = -infinity<A>();  // or near it
        double total = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer.data);
            const A* weight = nullptr;
            if (prior.data != nullptr) {
                weight = load_block<A, A>(row_of<A>(prior, n), first, count, A(0), prior_buffer.data);
                x = allowed(x, weight, padded, q_buffer.data);
            }
            if (weight == nullptr) {
                add_exponentials(x, padded, scale, exponential_of, maximum, total);
                continue;
            }
            const A block = block_maximum(x, padded);
            if (!(block <= maximum)) {
                total *= total == 0.0 ? 0.0 : std::exp((static_cast<double>(maximum) - static_cast<double>(block)) * scale);
                maximum = block;
            }
            if (maximum == -infinity<A>()) continue;
            total += sum_weighted<A>(x, weight, padded, maximum, exponential_of);
        }
        const bool finite = maximum != -infinity<A>() && maximum != infinity<A>();
        return Rounded<A>(static_cast<double>(maximum), finite ? tau * std::log(total) : 0.0);
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
            const A saved = value != nullptr ? static_cast<const A*>(value)[n] : A(0);
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
        BlockBuffer<A> q_buffer, prior_buffer;
        const T* const row = row_of<T>(q, n);
        const int64_t action = actions != nullptr ? actions[n] : -1;
        const A chosen = action >= 0 ? to_accumulator(row[action]) : A(0);  // before the gradient may overwrite it
        if (prior.data != nullptr) {
            return prior_gradient<T>(n, upstream, gradient, chosen, exponential_of, q_buffer.data, prior_buffer.data);
        }
        const A kept = static_cast<const A*>(correction)[n];
        const auto normalizer = row_normalizer<T, A>(row, shape.vocab, saved, kept, scale, exponential_of, q_buffer.data);
        const A shift = normalizer.shift, factor = static_cast<A>(static_cast<double>(upstream) * normalizer.factor);
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) {
            gradient[w] = from_accumulator<T>(exponential_of(to_accumulator(row[w]) - shift) * factor);
        }
        return action >= 0 ? exponential_of(chosen - shift) * factor : A(0);
    }

    // With a prior the exponential alone may overflow where its weight is tiny: the row is walked for maximum and sum.
    template <class T, class A>
    SB_INLINE A prior_gradient(int64_t n, A upstream, T* gradient, A chosen, ScaledExp<A, kFused> exponential_of,
                               A* q_buffer, A* prior_buffer) const {
        const T* const row = row_of<T>(q, n);
        const A* const prior_row = row_of<A>(prior, n);
        const A shift = allowed_maximum<T>(n, q_buffer, prior_buffer);
        double total = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row, first, count, -infinity<A>(), q_buffer);
            const A* weight = load_block<A, A>(prior_row, first, count, A(0), prior_buffer);
            total += sum_weighted<A>(allowed(x, weight, padded, q_buffer), weight, padded, shift, exponential_of);
        }
        const A factor = static_cast<A>(static_cast<double>(upstream) / total);
        const auto weigh = [&](A x, A weight) { return weight > A(0) ? weight * exponential_of(x - shift) * factor : A(0); };
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) {
            gradient[w] = from_accumulator<T>(weigh(to_accumulator(row[w]), prior_row[w]));
        }
        return actions != nullptr ? weigh(chosen, prior_row[actions[n]]) : A(0);
    }

    template <class T>
    SB_INLINE Accumulator<T> allowed_maximum(int64_t n, Accumulator<T>* q_buffer, Accumulator<T>* prior_buffer) const {
        using A = Accumulator<T>;
        A maximum = -infinity<A>();
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer);
            x = allowed(x, load_block<A, A>(row_of<A>(prior, n), first, count, A(0), prior_buffer), padded, q_buffer);
            const A block = block_maximum(x, padded);
            if (!(block <= maximum)) maximum = block;
        }
        return maximum;
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
    const SoftValueForward values{in.shape, in.q, in.tau, {}, in.actions, in.value, in.correction, nullptr};
    run_kernel<Forward>(in.shape, threads, values, in.sequences);
}

void soft_bellman_backward(const SoftBellmanBackward& in, int threads) {
    const SoftValueBackward values{
        in.shape, in.q, in.tau, {}, in.actions, in.value, in.correction, nullptr, in.sequences.grad_residual, in.grad_q};
    run_kernel<Backward>(in.shape, threads, values, in.sequences);
}

}  // namespace softbellman::cpu
