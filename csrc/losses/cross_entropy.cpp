// Cross entropy of pi = softmax(x) under an oracle softmax(q / tau), a target token, or a mixture of both (eq 17), and the
// gradient to x. Without q it is the negative log-likelihood of the target.
//
// Forward: one read of each input in one sweep; the shifts of both exponentials follow the maxima from afar. Backward: one
// read of each and one write in one sweep; what rounding took from the saved normalisers was saved with them and does not
// reach the gradient. A row belongs to one thread.
#include "losses/cross_entropy.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 16;  // five running numbers of more lanes would not fit the vector registers

// The most by which q / tau may lie above the oracle's shift before its sums are moved: so little that no digit is lost.
constexpr double kLargestStep = 1.0;

template <class A>
SB_INLINE A weight_of_oracle(const void* oracle_weight, bool has_oracle, int64_t n) {
    if (!has_oracle) return A(0);
    return oracle_weight != nullptr ? static_cast<const A*>(oracle_weight)[n] : A(1);
}

template <bool kFused>
struct Forward : CrossEntropyForward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            Terms terms;
            if (!is_masked(shape.mask, n)) terms = row_terms<T>(n);
            const Rounded<A> policy(terms.maximum, terms.log_sum);
            static_cast<A*>(loss)[n] = static_cast<A>(terms.loss);
            static_cast<A*>(log_normalizer)[n] = policy.high;
            static_cast<A*>(correction)[n] = weight_correction(policy, 1.0);
            const Rounded<A> oracle(terms.oracle_maximum, terms.oracle_log_sum);
            static_cast<A*>(oracle_log_normalizer)[n] = oracle.high;
            static_cast<A*>(oracle_correction)[n] = weight_correction(oracle, 1.0);
        }
    }

    // What a row amounts to; its normalisers are maximum + log_sum and oracle_maximum + oracle_log_sum.
    struct Terms {
        double loss = 0, maximum = 0, log_sum = 0, oracle_maximum = 0, oracle_log_sum = 0;
    };

    template <class T>
    SB_INLINE Terms row_terms(int64_t n) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A, kFused> exponential_of(1.0), oracle_exponential(scale);
        const A alpha = weight_of_oracle<A>(oracle_weight, q.data != nullptr, n);
        BlockBuffer<A> x_buffer, q_buffer;
        A maximum = -infinity<A>();        // of the logits, or near it
        double total = 0.0, origin = 0.0;  // origin: the logit at the oracle's most likely action
        OracleState<double> oracle;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), x_buffer.data);
            if (alpha == A(0)) {
                add_exponentials(x, padded, 1.0, exponential_of, maximum, total);
                continue;
            }
            const A* y = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer.data);
            if (add_block<A>(x, y, padded, maximum, static_cast<A>(origin), exponential_of, oracle_exponential, total,
                             oracle)) {
                continue;
            }
            add_exponentials(x, padded, 1.0, exponential_of, maximum, total);
            const A largest = block_maximum(y, padded);
            if (!(static_cast<double>(largest) <= oracle.maximum)) {
                oracle.rescale(static_cast<double>(largest), scale);
                const double next = origin_at(y, x, count, largest, origin);
                oracle.cross += (origin - next) * oracle.sum;
                origin = next;
            }
            if (oracle.exists()) {
                add_oracle<A>(x, y, padded, static_cast<A>(oracle.maximum), static_cast<A>(origin), oracle_exponential,
                              oracle);
            }
        }
        Terms terms;
        terms.maximum = static_cast<double>(maximum);
        terms.oracle_maximum = oracle.exists() ? oracle.maximum * scale : oracle.maximum;
        terms.oracle_log_sum = oracle.exists() ? std::log(oracle.sum) : 0.0;
        if (maximum == -infinity<A>()) return terms;
        terms.log_sum = std::log(total);
        double target_shift = 0.0;
        if (alpha != A(1)) {
            const double target = static_cast<double>(to_accumulator(row_of<T>(logits, n)[targets[n]]));
            target_shift = (terms.maximum - target) + terms.log_sum;
        }
        const double policy_shift = (terms.maximum - origin) + terms.log_sum;
        terms.loss = cross_entropy_row_loss(policy_shift, target_shift, oracle, static_cast<double>(alpha));
        return terms;
    }

    // Adds a block to both distributions' sums; false where one of its maxima lies too far above its shift, or there is
    // none.
    template <class A>
    SB_INLINE bool add_block(const A* x, const A* y, int64_t padded, A shift, A origin, ScaledExp<A, kFused> exponential_of,
                             ScaledExp<A, kFused> oracle_exponential, double& total, OracleState<double>& oracle) const {
        const A oracle_shift = static_cast<A>(oracle.maximum);
        if (!(std::fabs(shift) < infinity<A>()) || !(std::fabs(oracle_shift) < infinity<A>())) return false;
        // A logit of -inf where the oracle's probability is 0 makes the quick sum NaN: only then are such terms looked for.
        BlockSums sums = sum_block<false>(x, y, padded, shift, oracle_shift, origin, exponential_of, oracle_exponential);
        if (sums.largest - static_cast<double>(shift) > kLargestExcess ||
            sums.largest_q - oracle.maximum > kLargestStep * tau) {
            return false;
        }
        if (sums.cross != sums.cross) {
            sums = sum_block<true>(x, y, padded, shift, oracle_shift, origin, exponential_of, oracle_exponential);
        }
        total += sums.policy;
        oracle.sum += sums.weight;
        oracle.cross += sums.cross;
        return true;
    }

    struct BlockSums {
        double policy, weight, cross, largest, largest_q;
    };

    template <bool kGuarded, class A>
    static SB_INLINE BlockSums sum_block(const A* x, const A* y, int64_t padded, A shift, A oracle_shift, A origin,
                                         ScaledExp<A, kFused> exponential_of, ScaledExp<A, kFused> oracle_exponential) {
        A policy[kWidth], weight[kWidth], cross[kWidth], largest[kWidth], largest_q[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) policy[l] = weight[l] = cross[l] = A(0);
        for (int64_t l = 0; l < kWidth; ++l) largest[l] = largest_q[l] = -infinity<A>();
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                policy[l] += exponential_of(x[i + l] - shift);
                const A e = oracle_exponential(y[i + l] - oracle_shift), by = x[i + l] - origin;
                weight[l] += e;
                cross[l] += e * (kGuarded ? unless_zero(e, by) : by);
                largest[l] = x[i + l] > largest[l] ? x[i + l] : largest[l];
                largest_q[l] = y[i + l] > largest_q[l] ? y[i + l] : largest_q[l];
            }
        }
        return {fold_lanes<A, kWidth>(policy), fold_lanes<A, kWidth>(weight), fold_lanes<A, kWidth>(cross),
                static_cast<double>(largest_lane<A, kWidth>(largest)),
                static_cast<double>(largest_lane<A, kWidth>(largest_q))};
    }

    template <class A>
    static SB_INLINE void add_oracle(const A* x, const A* y, int64_t padded, A maximum, A origin,
                                     ScaledExp<A, kFused> exponential_of, OracleState<double>& oracle) {
        A weight[kWidth], cross[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = cross[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A e = exponential_of(y[i + l] - maximum);
                weight[l] += e;
                cross[l] += e * unless_zero(e, x[i + l] - origin);
            }
        }
        oracle.sum += fold_lanes<A, kWidth>(weight);
        oracle.cross += fold_lanes<A, kWidth>(cross);
    }
};

template <bool kFused>
struct Backward : CrossEntropyBackward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        BlockBuffer<A> buffer;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_logits, n);
            const A upstream = is_masked(shape.mask, n) ? A(0) : static_cast<const A*>(grad_loss)[n];
            const A normalizer = static_cast<const A*>(log_normalizer)[n];
            if (upstream == A(0) || normalizer == -infinity<A>()) {
                store_zeros(gradient, shape.vocab);
                continue;
            }
            const A alpha = weight_of_oracle<A>(oracle_weight, q.data != nullptr, n);
            const A oracle_normalizer = alpha != A(0) ? static_cast<const A*>(oracle_log_normalizer)[n] : -infinity<A>();
            const bool has_oracle = oracle_normalizer != -infinity<A>();

            const T* const row = row_of<T>(logits, n);
            const ScaledExp<A, kFused> policy_exponential(1.0);
            const A kept = static_cast<const A*>(correction)[n];
            const auto policy =
                row_normalizer<A>(RowBlocks<T, A>{row}, shape.vocab, normalizer, kept, 1.0, policy_exponential, buffer.data);
            const double policy_weight =
                (has_oracle ? static_cast<double>(alpha) : 0.0) + (1.0 - static_cast<double>(alpha));
            const Weights<A> of_policy{policy.shift,
                                       static_cast<A>(static_cast<double>(upstream) * policy_weight * policy.factor)};
            // Read before the gradient may overwrite them.
            const int64_t target = alpha != A(1) ? targets[n] : 0;
            A soft = of_policy(to_accumulator(row[target]), policy_exponential);
            if (has_oracle) {
                const T* const oracle_row = row_of<T>(q, n);
                const Weights<A> of_oracle = oracle_weights<T>(n, oracle_normalizer, upstream * alpha, buffer.data);
                const ScaledExp<A, kFused> oracle_exponential(1.0 / tau);
                soft -= of_oracle(to_accumulator(oracle_row[target]), oracle_exponential);
                SB_INDEPENDENT
                for (int64_t w = 0; w < shape.vocab; ++w) {
                    gradient[w] = from_accumulator<T>(of_policy(to_accumulator(row[w]), policy_exponential) -
                                                      of_oracle(to_accumulator(oracle_row[w]), oracle_exponential));
                }
            } else {
                SB_INDEPENDENT
                for (int64_t w = 0; w < shape.vocab; ++w) {
                    gradient[w] = from_accumulator<T>(of_policy(to_accumulator(row[w]), policy_exponential));
                }
            }
            if (alpha != A(1)) gradient[target] = from_accumulator<T>(soft - (A(1) - alpha) * upstream);
        }
    }

    template <class A>
    struct Weights {
        A shift, factor;
        SB_INLINE A operator()(A x, ScaledExp<A, kFused> exponential_of) const { return exponential_of(x - shift) * factor; }
    };

    // The oracle's probabilities times `weight`. Its normaliser is one of q / tau, the shift one of q.
    template <class T, class A>
    SB_INLINE Weights<A> oracle_weights(int64_t n, A normalizer, A weight, A* buffer) const {
        const double scale = 1.0 / tau, exact = tau * static_cast<double>(normalizer);
        const Rounded<A> shift(exact, 0.0);
        const double kept = static_cast<double>(static_cast<const A*>(oracle_correction)[n]);
        const A weights = static_cast<A>(kept * static_cast<double>(weight_correction(shift, scale)));
        const auto oracle = row_normalizer<A>(RowBlocks<T, A>{row_of<T>(q, n)}, shape.vocab, shift.high, weights, scale,
                                              ScaledExp<A, kFused>(scale), buffer);
        return {oracle.shift, static_cast<A>(static_cast<double>(weight) * oracle.factor)};
    }
};

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& in, int threads) {
    run_kernel<Forward>(in.shape, threads, in);
}

void cross_entropy_backward(const CrossEntropyBackward& in, int threads) {
    run_kernel<Backward>(in.shape, threads, in);
}

}  // namespace softbellman::cpu
