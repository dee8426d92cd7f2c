// Value of a policy pi = softmax(logits) under q with its entropy (eq 9, 19, 20), and the gradients to logits and q.
//
// Forward: one read of each input in one sweep; the shift of the exponentials follows the maximum from afar. Backward: one
// read of each, one write of each gradient, in one sweep. What rounding took from the saved normaliser and value was saved
// with them, so that it does not reach the gradient. A row belongs to one thread.
#include "losses/policy.h"
#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 16;  // three running sums and a maximum of more lanes would not fit the vector registers

// The most by which a logit may lie above the shift before the sums are moved: so little that no digit of them is lost.
constexpr double kLargestStep = 1.0;

// Sums of one row, all with the factor exp(-shift); d = x - shift <= kLargestStep.
struct Sums {
    double weight = 0, logits = 0, q = 0;               // sum e^d, sum e^d d, sum e^d (q - origin)
    double count = 0, shifted = 0, shifted_square = 0;  // over logits > -inf: 1, d, d^2
    double origin = 0;                                  // the q of the logit that gave the shift

    SB_INLINE void move_shift(double drop) {  // drop = old shift - new shift <= 0, -inf at the start
        if (weight == 0.0) return;
        const double factor = std::exp(drop);
        logits = factor == 0.0 ? 0.0 : factor * (logits + drop * weight);
        q = factor == 0.0 ? 0.0 : factor * q;
        weight *= factor;
        shifted_square += drop * (2.0 * shifted + drop * count);
        shifted += drop * count;
    }

    SB_INLINE void move_origin(double next) {
        q += (origin - next) * weight;
        origin = next;
    }
};

template <bool kFused>
struct Forward : PolicyForward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            Terms terms;
            if (!is_masked(shape.mask, n)) terms = row_terms<T>(n);
            Rounded<A> exact(terms.origin, terms.above_origin);
            if (has_prior()) exact = value_under_prior<A>(terms);
            static_cast<A*>(value)[n] = exact.high;
            static_cast<A*>(entropy)[n] = static_cast<A>(terms.entropy);
            if (log_normalizer == nullptr) continue;  // no gradient will be asked for
            const Rounded<A> normalizer(terms.shift, terms.log_sum);
            static_cast<A*>(value_low)[n] = exact.low;
            static_cast<A*>(log_normalizer)[n] = normalizer.high;
            static_cast<A*>(correction)[n] = weight_correction(normalizer, 1.0);
            static_cast<A*>(effective_tau)[n] = static_cast<A>(terms.effective_tau);
        }
    }

    // What a row amounts to; its value (under a prior that of y) is origin + above_origin, its normaliser shift + log_sum.
    struct Terms {
        double origin = 0, above_origin = 0, entropy = 0, shift = 0, log_sum = 0, effective_tau = 0;
        double prior_log_normalizer = 0;
    };

    SB_INLINE bool has_prior() const { return prior.data != nullptr && tau != 0.0; }

    // The value, and what the value of y has above it.
    template <class A>
    SB_INLINE Rounded<A> value_under_prior(const Terms& terms) const {
        const double of_prior = tau * terms.prior_log_normalizer;
        Rounded<A> exact(of_prior == -infinity<double>() ? of_prior : terms.origin - of_prior, terms.above_origin);
        if (std::fabs(exact.high) < infinity<A>()) {
            exact.low = static_cast<A>((terms.origin - static_cast<double>(exact.high)) + terms.above_origin);
        }
        return exact;
    }

    template <class T>
    SB_INLINE Terms row_terms(int64_t n) const {
        using A = Accumulator<T>;
        const ScaledExp<A, kFused> exponential_of(1.0);
        BlockBuffer<A> x_buffer, q_buffer, prior_buffer;
        A shift = -infinity<A>(), prior_maximum = -infinity<A>();
        double prior_total = 0.0;
        Sums sums;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), x_buffer.data);
            const A* y = load_block<T, A>(row_of<T>(q, n), first, count, A(0), q_buffer.data);
            if (has_prior()) {
                const A* weights = load_block<T, A>(row_of<T>(prior, n), first, count, -infinity<A>(), prior_buffer.data);
                add_exponentials(weights, padded, 1.0, exponential_of, prior_maximum, prior_total);
                y = add_prior(y, weights, static_cast<A>(tau), count, q_buffer.data);
            }
            if (!add_block<A>(x, y, padded, shift, exponential_of, sums)) {
                const A block = block_maximum(x, padded);
                if (!(block <= shift)) {
                    sums.move_shift(static_cast<double>(shift) - static_cast<double>(block));
                    sums.move_origin(origin_at(x, y, count, block, sums.origin));
                    shift = block;
                }
                if (shift == -infinity<A>()) continue;
                add_terms(block_sums<A>(x, y, padded, shift, static_cast<A>(sums.origin), exponential_of), sums);
            }
            if (entropy_mode == kEntropyNormalized) add_squares<A>(x, padded, shift, sums);
        }
        Terms terms;
        terms.shift = static_cast<double>(shift);
        terms.effective_tau = entropy_mode == kEntropyExact ? tau : 0.0;
        if (shift == -infinity<A>()) return terms;
        terms.log_sum = std::log(sums.weight);
        const double row_entropy = terms.log_sum - sums.logits / sums.weight;
        terms.entropy = row_entropy < 0.0 ? 0.0 : row_entropy;
        // sum (d - log_sum)^2 = sum log pi^2
        const double squares = sums.shifted_square + terms.log_sum * (terms.log_sum * sums.count - 2.0 * sums.shifted);
        terms.effective_tau = effective_temperature(tau, entropy_mode, squares);
        if (has_prior()) terms.prior_log_normalizer = static_cast<double>(prior_maximum) + std::log(prior_total);
        terms.origin = sums.origin;
        terms.above_origin = sums.q / sums.weight + terms.effective_tau * terms.entropy;
        return terms;
    }

    struct BlockSums {
        double weight, logits, q, largest;
    };

    static SB_INLINE void add_terms(const BlockSums& block, Sums& sums) {
        sums.weight += block.weight;
        sums.logits += block.logits;
        sums.q += block.q;
    }

    // Adds a block to the sums; false where its largest logit lies too far above the shift, or there is none yet.
    template <class A>
    static SB_INLINE bool add_block(const A* x, const A* y, int64_t padded, A shift, ScaledExp<A, kFused> exponential_of,
                                    Sums& sums) {
        if (!(std::fabs(shift) < infinity<A>())) return false;
        const BlockSums block = block_sums<A>(x, y, padded, shift, static_cast<A>(sums.origin), exponential_of);
        if (block.largest - static_cast<double>(shift) > kLargestStep) return false;
        add_terms(block, sums);
        return true;
    }

    // A q of -inf or NaN where the policy is 0 makes the quick sum NaN: only then are such terms looked for.
    template <class A>
    static SB_INLINE BlockSums block_sums(const A* x, const A* y, int64_t padded, A shift, A origin,
                                          ScaledExp<A, kFused> exponential_of) {
        const BlockSums quick = sum_block<false>(x, y, padded, shift, origin, exponential_of);
        return quick.q == quick.q ? quick : sum_block<true>(x, y, padded, shift, origin, exponential_of);
    }

    template <bool kGuarded, class A>
    static SB_INLINE BlockSums sum_block(const A* x, const A* y, int64_t padded, A shift, A origin,
                                         ScaledExp<A, kFused> exponential_of) {
        A weight[kWidth], by_logit[kWidth], by_q[kWidth], largest[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = by_q[l] = A(0);
        for (int64_t l = 0; l < kWidth; ++l) largest[l] = -infinity<A>();
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = x[i + l] - shift;
                const A e = exponential_of(d), by = y[i + l] - origin;
                weight[l] += e;
                by_logit[l] += e * (d > kNegligible<A> ? d : kNegligible<A>);  // d may be -inf
                by_q[l] += e * (kGuarded ? unless_zero(e, by) : by);
                largest[l] = x[i + l] > largest[l] ? x[i + l] : largest[l];
            }
        }
        return {fold_lanes<A, kWidth>(weight), fold_lanes<A, kWidth>(by_logit), fold_lanes<A, kWidth>(by_q),
                static_cast<double>(largest_lane<A, kWidth>(largest))};
    }

    template <class A>
    static SB_INLINE void add_squares(const A* x, int64_t padded, A shift, Sums& sums) {
        A count[kWidth], shifted[kWidth], square[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) count[l] = shifted[l] = square[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const bool possible = x[i + l] != -infinity<A>();
                const A d = possible ? x[i + l] - shift : A(0);
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

template <bool kFused>
struct Backward : PolicyBackward {
    // What the sweep needs to know of a row.
    template <class A>
    struct Row {
        A shift;  // log pi = x - shift - log_sum
        A log_sum;
        A inverse_sum;  // pi = exp(x - shift) * inverse_sum
        A value, value_low;
        A entropy;
        A effective_tau;
        A grad_value;
        A grad_entropy;
    };

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const to_logits = grad_logits.data != nullptr ? row_of<T>(grad_logits, n) : nullptr;
            T* const to_q = grad_q.data != nullptr ? row_of<T>(grad_q, n) : nullptr;
            Row<A> row;
            row.grad_value = grad_value != nullptr ? static_cast<const A*>(grad_value)[n] : A(0);
            row.grad_entropy = grad_entropy != nullptr ? static_cast<const A*>(grad_entropy)[n] : A(0);
            row.shift = static_cast<const A*>(log_normalizer)[n];
            const bool no_gradient = row.grad_value == A(0) && row.grad_entropy == A(0);
            if (is_masked(shape.mask, n) || no_gradient || row.shift == -infinity<A>()) {
                if (to_logits != nullptr) store_zeros(to_logits, shape.vocab);
                if (to_q != nullptr) store_zeros(to_q, shape.vocab);
                continue;
            }
            read_saved<T>(n, row);
            if (to_logits == nullptr) {
                if (to_q != nullptr) sweep<T, false, false, true>(n, row, row.grad_value, to_logits, to_q);
                continue;
            }
            // A value of -inf (a possible action with q = -inf) has no finite gradient to the logits: none is given.
            const A upstream = row.grad_value;
            if (std::fabs(row.value) == infinity<A>()) row.grad_value = A(0);
            if (row.grad_value != A(0) && prior.data != nullptr && row.effective_tau != A(0)) {
                if (to_q != nullptr) sweep<T, true, true, true, true>(n, row, upstream, to_logits, to_q);
                if (to_q == nullptr) sweep<T, true, true, false, true>(n, row, upstream, to_logits, to_q);
            } else if (row.grad_value != A(0)) {
                if (to_q != nullptr) sweep<T, true, true, true>(n, row, upstream, to_logits, to_q);
                if (to_q == nullptr) sweep<T, true, true, false>(n, row, upstream, to_logits, to_q);
            } else {
                if (to_q != nullptr) sweep<T, true, false, true>(n, row, upstream, to_logits, to_q);
                if (to_q == nullptr) sweep<T, true, false, false>(n, row, upstream, to_logits, to_q);
            }
        }
    }

    template <class T, class A>
    SB_INLINE void read_saved(int64_t n, Row<A>& row) const {
        BlockBuffer<A> buffer;
        const A kept = static_cast<const A*>(correction)[n];
        const auto normalizer = row_normalizer<A>(RowBlocks<T, A>{row_of<T>(logits, n)}, shape.vocab, row.shift, kept, 1.0,
                                                  ScaledExp<A, kFused>(1.0), buffer.data);
        row.shift = normalizer.shift;
        row.log_sum = static_cast<A>(-std::log(normalizer.factor));
        row.inverse_sum = static_cast<A>(normalizer.factor);
        row.value = static_cast<const A*>(value)[n];
        row.value_low = static_cast<const A*>(value_low)[n];
        row.entropy = static_cast<const A*>(entropy)[n];
        row.effective_tau = static_cast<const A*>(effective_tau)[n];
    }

    // Both gradients of an element are written after both of its inputs are read.
    template <class T, bool kToLogits, bool kWithValue, bool kToQ, bool kWithPrior = false, class A>
    SB_INLINE void sweep(int64_t n, const Row<A>& row, A upstream, T* to_logits, T* to_q) const {
        const ScaledExp<A, kFused> exponential_of(1.0);
        const T* const x = row_of<T>(logits, n);
        const T* const y = row_of<T>(q, n);
        const T* const weights = kWithPrior ? row_of<T>(prior, n) : nullptr;
        const A shift = row.shift, log_sum = row.log_sum, inverse_sum = row.inverse_sum, value = row.value;
        const A value_low = row.value_low, entropy = row.entropy, effective_tau = row.effective_tau;
        const A by_value = row.grad_value, by_entropy = row.grad_entropy;
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) {
            const A d = to_accumulator(x[w]) - shift;
            const A probability = exponential_of(d) * inverse_sum;
            if constexpr (kToLogits) {
                const A log_pi = d - log_sum;
                A slope = -by_entropy * (log_pi + entropy);
                if constexpr (kWithValue) {
                    A of_action = to_accumulator(y[w]);
                    if constexpr (kWithPrior) of_action += effective_tau * to_accumulator(weights[w]);
                    const A advantage = of_action - value - (effective_tau * log_pi + value_low);
                    slope += by_value * advantage;
                }
                to_logits[w] = from_accumulator<T>(probability * unless_zero(probability, slope));
            }
            if constexpr (kToQ) to_q[w] = from_accumulator<T>(probability * upstream);
        }
    }
};

}  // namespace

void policy_forward(const PolicyForward& in, int threads) {
    run_kernel<Forward>(in.shape, threads, in);
}

void policy_backward(const PolicyBackward& in, int threads) {
    run_kernel<Backward>(in.shape, threads, in);
}

}  // namespace softbellman::cpu
