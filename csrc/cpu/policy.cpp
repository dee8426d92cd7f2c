// Value of a policy pi = softmax(logits) under q with its entropy (eq 9, 19, 20), and the gradients to logits and q.
//
// Forward: one read of each input, all sums in one sweep of a block. Backward: one read of each, one write of each gradient.
// A first sweep over the row (still in cache for the second) finds what the rounding of the saved normaliser and value left
// over, so the gradient of a row sums to zero far below float32 rounding. A row belongs to one thread.
#include "../common/policy_math.h"
#include "block.h"
#include "simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 32;  // three running sums of 64 lanes would not fit the vector registers

// Sums of one row, all with the factor exp(-maximum); d = x - maximum <= 0.
struct Sums {
    double weight = 0, logits = 0, q = 0;               // sum e^d, sum e^d d, sum e^d (q - origin)
    double count = 0, shifted = 0, shifted_square = 0;  // over logits > -inf: 1, d, d^2
    double origin = 0;                                  // the q of the largest logit

    SB_INLINE void move_maximum(double drop) {  // drop = old maximum - new maximum <= 0, -inf at the start
        if (weight == 0.0) return;
        const double factor = std::exp(drop);
        logits = factor == 0.0 ? 0.0 : factor * (logits + drop * weight);
        q = factor == 0.0 ? 0.0 : factor * q;
        weight *= factor;
        shifted_square += drop * (2.0 * shifted + drop * count);  // all terms have one sign: no cancellation
        shifted += drop * count;
    }

    SB_INLINE void move_origin(double next) {
        q += (origin - next) * weight;
        origin = next;
    }
};

struct Forward {
    Rows shape;
    Matrix logits;
    Matrix q;
    double tau;
    int entropy_mode;
    void* value;
    void* entropy;
    void* log_normalizer;
    void* effective_tau;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            double results[4] = {0, 0, 0, 0};
            if (!is_masked(shape.mask, n)) row_terms<T>(n, results);
            static_cast<A*>(value)[n] = static_cast<A>(results[0]);
            static_cast<A*>(entropy)[n] = static_cast<A>(results[1]);
            static_cast<A*>(log_normalizer)[n] = static_cast<A>(results[2]);
            static_cast<A*>(effective_tau)[n] = static_cast<A>(results[3]);
        }
    }

    template <class T>
    SB_INLINE void row_terms(int64_t n, double* results) const {
        using A = Accumulator<T>;
        const ScaledExp<A> exponential_of(1.0);
        BlockBuffer<A> x_buffer, q_buffer;
        A maximum = -infinity<A>();
        Sums sums;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), x_buffer.data);
            const A* y = load_block<T, A>(row_of<T>(q, n), first, count, A(0), q_buffer.data);
            const A block = block_maximum(x, padded);
            if (!(block <= maximum)) {
                sums.move_maximum(static_cast<double>(maximum) - static_cast<double>(block));
                sums.move_origin(origin_at(x, y, count, block, sums.origin));
                maximum = block;
            }
            if (maximum == -infinity<A>()) continue;
            add_block<A>(x, y, padded, maximum, static_cast<A>(sums.origin), exponential_of, sums);
            if (entropy_mode == kEntropyNormalized) add_squares<A>(x, padded, maximum, sums);
        }
        results[2] = static_cast<double>(maximum);
        results[3] = entropy_mode == kEntropyExact ? tau : 0.0;
        if (maximum == -infinity<A>()) return;
        const double log_sum = std::log(sums.weight);
        const double row_entropy = log_sum - sums.logits / sums.weight;
        results[1] = row_entropy < 0.0 ? 0.0 : row_entropy;
        results[2] += log_sum;
        // sum (d - log_sum)^2 = sum log pi^2
        const double squares = sums.shifted_square + log_sum * (log_sum * sums.count - 2.0 * sums.shifted);
        results[3] = effective_temperature(tau, entropy_mode, squares);
        results[0] = sums.origin + sums.q / sums.weight + results[3] * results[1];
    }

    template <class A>
    static SB_INLINE void add_block(const A* x, const A* y, int64_t padded, A maximum, A origin, ScaledExp<A> exponential_of,
                                    Sums& sums) {
        A weight[kWidth], by_logit[kWidth], by_q[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = by_q[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = x[i + l] - maximum;
                const A e = exponential_of(d);
                weight[l] += e;
                by_logit[l] += e * unless_zero(e, d);
                by_q[l] += e * unless_zero(e, y[i + l] - origin);
            }
        }
        sums.weight += fold_lanes<A, kWidth>(weight);
        sums.logits += fold_lanes<A, kWidth>(by_logit);
        sums.q += fold_lanes<A, kWidth>(by_q);
    }

    template <class A>
    static SB_INLINE void add_squares(const A* x, int64_t padded, A maximum, Sums& sums) {
        A count[kWidth], shifted[kWidth], square[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) count[l] = shifted[l] = square[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const bool possible = x[i + l] != -infinity<A>();
                const A d = possible ? x[i + l] - maximum : A(0);
                count[l] += possible ? A(1) : A(0);
                shifted[l] += d;
                square[l] += d * d;
            }
        }
        sums.count += fold_lanes<A, kWidth>(count);
        sums.shifted += fold_lanes<A, kWidth>(shifted);
        sums.shifted_square += fold_lanes<A, kWidth>(square);
    }
};

struct Backward {
    Rows shape;
    Matrix logits;
    Matrix q;
    const void* value;
    const void* entropy;
    const void* log_normalizer;
    const void* effective_tau;
    const void* grad_value;
    const void* grad_entropy;
    MutableMatrix grad_logits;
    MutableMatrix grad_q;

    // What the second sweep needs to know of a row.
    template <class A>
    struct Row {
        A shift;             // the saved normaliser, or the maximum where that cannot serve
        A value;             // subtracted from q before anything else
        A log_sum;           // log pi = x - shift - log_sum
        A inverse_sum;       // pi = weight / sum
        A value_correction;  // mean under pi of q - value - effective_tau log pi, zero but for rounding
        A entropy;
        A effective_tau;
        A grad_value;
        A grad_entropy;
    };

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        Scratch<A> scratch(shape.vocab, 1);
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const to_logits = grad_logits.data != nullptr ? row_of<T>(grad_logits, n) : nullptr;
            T* const to_q = grad_q.data != nullptr ? row_of<T>(grad_q, n) : nullptr;
            Row<A> row;
            row.grad_value = grad_value != nullptr ? static_cast<const A*>(grad_value)[n] : A(0);
            row.grad_entropy = grad_entropy != nullptr ? static_cast<const A*>(grad_entropy)[n] : A(0);
            row.shift = static_cast<const A*>(log_normalizer)[n];
            row.value = static_cast<const A*>(value)[n];
            row.effective_tau = static_cast<const A*>(effective_tau)[n];
            const bool no_gradient = row.grad_value == A(0) && row.grad_entropy == A(0);
            if (is_masked(shape.mask, n) || no_gradient || row.shift == -infinity<A>()) {
                if (to_logits != nullptr) store_zeros(to_logits, shape.vocab);
                if (to_q != nullptr) store_zeros(to_q, shape.vocab);
                continue;
            }
            first_sweep<T>(n, row, scratch.row(0));
            second_sweep<T>(n, row, scratch.row(0), to_logits, to_q);
        }
    }

    template <class T, class A>
    SB_INLINE void first_sweep(int64_t n, Row<A>& row, A* weights) const {
        const ScaledExp<A> exponential_of(1.0);
        BlockBuffer<A> x_buffer, q_buffer;
        if (!usable_shift(row.shift, 1.0)) row.shift = row_maximum<T, A>(row_of<T>(logits, n), shape.vocab, x_buffer.data);
        double sum = 0.0, sum_logits = 0.0, sum_q = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), x_buffer.data);
            const A* y = load_block<T, A>(row_of<T>(q, n), first, count, A(0), q_buffer.data);
            A weight[kWidth], by_logit[kWidth], by_q[kWidth];
            for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = by_q[l] = A(0);
            for (int64_t i = 0; i < padded; i += kWidth) {
                for (int64_t l = 0; l < kWidth; ++l) {
                    const A d = x[i + l] - row.shift;
                    const A e = exponential_of(d);
                    weights[first + i + l] = e;
                    weight[l] += e;
                    by_logit[l] += e * unless_zero(e, d);
                    by_q[l] += e * unless_zero(e, y[i + l] - row.value);
                }
            }
            sum += fold_lanes<A, kWidth>(weight);
            sum_logits += fold_lanes<A, kWidth>(by_logit);
            sum_q += fold_lanes<A, kWidth>(by_q);
        }
        const double log_sum = std::log(sum);
        const double row_entropy = log_sum - sum_logits / sum;
        row.log_sum = static_cast<A>(log_sum);
        row.inverse_sum = static_cast<A>(1.0 / sum);
        row.entropy = static_cast<A>(row_entropy);
        row.value_correction = static_cast<A>(sum_q / sum + static_cast<double>(row.effective_tau) * row_entropy);
        // A value of -inf (a possible action with q = -inf) has no finite gradient to the logits: none is given.
        if (!(std::fabs(row.value) < infinity<A>()) && row.value == row.value) row.grad_value = A(0);
    }

    // The logits' gradient comes first: it reads q, which the gradient of q may overwrite.
    template <class T, class A>
    SB_INLINE void second_sweep(int64_t n, const Row<A>& row, const A* weights, T* to_logits, T* to_q) const {
        if (to_logits != nullptr) logits_gradient<T>(n, row, weights, to_logits);
        if (to_q == nullptr) return;
        const A upstream = grad_value != nullptr ? static_cast<const A*>(grad_value)[n] : A(0);
        const A factor = row.inverse_sum * upstream;
        for (int64_t w = 0; w < shape.vocab; ++w) to_q[w] = from_accumulator<T>(weights[w] * factor);
    }

    template <class T, class A>
    SB_INLINE void logits_gradient(int64_t n, const Row<A>& row, const A* weights, T* to_logits) const {
        const T* x = row_of<T>(logits, n);
        const T* y = row_of<T>(q, n);
        if (row.grad_value == A(0)) {
            for (int64_t w = 0; w < shape.vocab; ++w) {
                const A log_pi = to_accumulator(x[w]) - row.shift - row.log_sum;
                const A slope = -row.grad_entropy * (log_pi + row.entropy);
                to_logits[w] = from_accumulator<T>(weights[w] * row.inverse_sum * unless_zero(weights[w], slope));
            }
            return;
        }
        for (int64_t w = 0; w < shape.vocab; ++w) {
            const A log_pi = to_accumulator(x[w]) - row.shift - row.log_sum;
            const A advantage = to_accumulator(y[w]) - row.value - (row.effective_tau * log_pi + row.value_correction);
            const A slope = row.grad_value * advantage - row.grad_entropy * (log_pi + row.entropy);
            to_logits[w] = from_accumulator<T>(weights[w] * row.inverse_sum * unless_zero(weights[w], slope));
        }
    }
};

}  // namespace

void policy_forward(const Rows& shape, Matrix logits, Matrix q, double tau, int entropy_mode, void* value, void* entropy,
                    void* log_normalizer, void* effective_tau) {
    run_kernel(Forward{shape, logits, q, tau, entropy_mode, value, entropy, log_normalizer, effective_tau}, shape);
}

void policy_backward(const Rows& shape, Matrix logits, Matrix q, const void* value, const void* entropy,
                     const void* log_normalizer, const void* effective_tau, const void* grad_value, const void* grad_entropy,
                     MutableMatrix grad_logits, MutableMatrix grad_q) {
    run_kernel(Backward{shape, logits, q, value, entropy, log_normalizer, effective_tau, grad_value, grad_entropy,
                        grad_logits, grad_q},
               shape);
}

}  // namespace softbellman::cpu
