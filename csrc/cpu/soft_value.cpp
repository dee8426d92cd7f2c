// Soft value tau * log sum_w prior(w) exp(q(w) / tau) and its gradient (eq 14).
//
// Forward: one read of q; without a prior one sweep, in which the shift follows the maximum from afar, else two sweeps of
// each block inside the first-level cache. Backward: one read of q and one write of the gradient; exponentials wait in one
// row of scratch until their sum is known, so the rounding of the saved value, large when |value| / tau is, never reaches
// the gradient. A row belongs to one thread.
#include "block.h"
#include "simd.h"

namespace softbellman::cpu {
namespace {

// q where the prior allows the action, -inf elsewhere; `x` may be `buffer`.
template <class A>
SB_INLINE const A* allowed(const A* x, const A* prior, int64_t padded, A* buffer) {
    for (int64_t i = 0; i < padded; ++i) buffer[i] = prior[i] > A(0) ? x[i] : -infinity<A>();
    return buffer;
}

template <class A>
SB_INLINE double sum_weights(const A* x, const A* prior, int64_t padded, A shift, ScaledExp<A> exponential_of, A* weights) {
    A lanes[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = A(0);
    if (prior != nullptr) {
        for (int64_t i = 0; i < padded; i += kLanes) {
            for (int64_t l = 0; l < kLanes; ++l) {
                const A weight = prior[i + l] * exponential_of(x[i + l] - shift);
                if (weights != nullptr) weights[i + l] = weight;
                lanes[l] += weight;
            }
        }
    } else if (weights != nullptr) {
        for (int64_t i = 0; i < padded; i += kLanes) {
            for (int64_t l = 0; l < kLanes; ++l) {
                const A weight = exponential_of(x[i + l] - shift);
                weights[i + l] = weight;
                lanes[l] += weight;
            }
        }
    } else {
        for (int64_t i = 0; i < padded; i += kLanes) {
            for (int64_t l = 0; l < kLanes; ++l) lanes[l] += exponential_of(x[i + l] - shift);
        }
    }
    return fold_lanes<A, kLanes>(lanes);
}

struct Forward {
    Rows shape;
    Matrix q;
    double tau;
    Matrix prior;
    const int64_t* actions;
    void* value;
    void* gathered;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        A* const values = static_cast<A*>(value);
        A* const chosen = static_cast<A*>(gathered);
        for (int64_t n = first_row; n < last_row; ++n) {
            const bool masked = is_masked(shape.mask, n);
            if (actions != nullptr && chosen != nullptr) {
                chosen[n] = masked ? A(0) : to_accumulator(row_of<T>(q, n)[actions[n]]);
            }
            values[n] = masked ? A(0) : row_value<T>(n);
        }
    }

    template <class T>
    SB_INLINE Accumulator<T> row_value(int64_t n) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A> exponential_of(scale);
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
            total += sum_weights<A>(x, weight, padded, maximum, exponential_of, nullptr);
        }
        if (maximum == -infinity<A>() || maximum == infinity<A>()) return maximum;
        return static_cast<A>(static_cast<double>(maximum) + tau * std::log(total));
    }
};

struct Backward {
    Rows shape;
    Matrix q;
    double tau;
    Matrix prior;
    const int64_t* actions;
    const void* value;
    const void* grad_value;
    const void* grad_gathered;
    MutableMatrix grad_q;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        Scratch<A> scratch(shape.vocab, 1);
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_q, n);
            if (is_masked(shape.mask, n)) {
                store_zeros(gradient, shape.vocab);
                continue;
            }
            const A upstream = grad_value != nullptr ? static_cast<const A*>(grad_value)[n] : A(0);
            const A saved = value != nullptr ? static_cast<const A*>(value)[n] : A(0);
            A softmax_part = A(0);  // of the chosen action
            if (upstream == A(0) || saved == -infinity<A>()) {
                store_zeros(gradient, shape.vocab);
            } else {
                softmax_part = row_gradient<T>(n, upstream, saved, gradient, scratch.row(0));
            }
            if (actions != nullptr && grad_gathered != nullptr) {
                gradient[actions[n]] = from_accumulator<T>(softmax_part + static_cast<const A*>(grad_gathered)[n]);
            }
        }
    }

    template <class T>
    SB_INLINE Accumulator<T> row_gradient(int64_t n, Accumulator<T> upstream, Accumulator<T> saved, T* gradient,
                                          Accumulator<T>* weights) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A> exponential_of(scale);
        BlockBuffer<A> q_buffer, prior_buffer;
        A shift = saved;
        // With a prior the exponential alone may overflow where its weight is tiny: shift by the maximum.
        if (prior.data != nullptr || !usable_shift(saved, scale))
            shift = allowed_maximum<T>(n, q_buffer.data, prior_buffer.data);
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
            total += sum_weights<A>(x, weight, padded, shift, exponential_of, weights + first);
        }
        const A factor = static_cast<A>(static_cast<double>(upstream) / total);
        for (int64_t w = 0; w < shape.vocab; ++w) gradient[w] = from_accumulator<T>(weights[w] * factor);
        return actions != nullptr ? weights[actions[n]] * factor : A(0);
    }

    template <class T>
    SB_INLINE Accumulator<T> allowed_maximum(int64_t n, Accumulator<T>* q_buffer, Accumulator<T>* prior_buffer) const {
        using A = Accumulator<T>;
        A maximum = -infinity<A>();
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer);
            if (prior.data != nullptr) {
                x = allowed(x, load_block<A, A>(row_of<A>(prior, n), first, count, A(0), prior_buffer), padded, q_buffer);
            }
            const A block = block_maximum(x, padded);
            if (!(block <= maximum)) maximum = block;
        }
        return maximum;
    }
};

struct Exponential {
    Rows shape;
    Matrix x;
    double scale;
    MutableMatrix result;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        const ScaledExp<A> exponential_of(scale);
        for (int64_t n = first_row; n < last_row; ++n) {
            const A* const from = row_of<A>(x, n);
            A* const to = row_of<A>(result, n);
            for (int64_t i = 0; i < shape.vocab; ++i) to[i] = exponential_of(from[i]);
        }
    }
};

}  // namespace

void exponential_forward(const Rows& shape, const void* x, double scale, void* result) {
    run_kernel(Exponential{shape, {x, shape.vocab}, scale, {result, shape.vocab}}, shape);
}

void soft_value_forward(const Rows& shape, Matrix q, double tau, Matrix prior, const int64_t* actions, void* value,
                        void* gathered) {
    run_kernel(Forward{shape, q, tau, prior, actions, value, gathered}, shape);
}

void soft_value_backward(const Rows& shape, Matrix q, double tau, Matrix prior, const int64_t* actions, const void* value,
                         const void* grad_value, const void* grad_gathered, MutableMatrix grad_q) {
    run_kernel(Backward{shape, q, tau, prior, actions, value, grad_value, grad_gathered, grad_q}, shape);
}

}  // namespace softbellman::cpu
