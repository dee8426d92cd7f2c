// Log-probability of a target, entropy and log-normaliser of pi = softmax(x), and the gradient of a sum of them.
//
// Forward: one read of the row in one sweep; the shift of the exponentials follows the maximum from afar. Backward: one read
// and one write in one sweep; what rounding took from the saved normaliser was saved with it and does not reach the
// gradient. A row belongs to one thread.
#include "losses/token_statistics.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 16;

// The most by which a logit may lie above the shift before the sums are moved: so little that no digit of them is lost.
constexpr double kLargestStep = 1.0;

template <bool kFused>
struct Forward : TokenStatisticsForward {
    // Sums of one row with the factor exp(-shift): sum e^d and sum e^d d, d = x - shift <= kLargestStep.
    struct Sums {
        double weight = 0, logits = 0, largest = 0;

        SB_INLINE void move_shift(double drop) {  // drop = old shift - new shift <= 0, -inf at the start
            if (weight == 0.0) return;
            const double factor = std::exp(drop);
            logits = factor == 0.0 ? 0.0 : factor * (logits + drop * weight);
            weight *= factor;
        }

        SB_INLINE void add(const Sums& block) {
            weight += block.weight;
            logits += block.logits;
        }
    };

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            double shift = 0.0, log_sum = 0.0, row_entropy = 0.0, of_target = 0.0;
            if (!is_masked(shape.mask, n)) {
                Sums sums;
                shift = row_sums<T>(n, sums);
                if (shift != -infinity<double>()) {
                    log_sum = std::log(sums.weight);
                    row_entropy = log_sum - sums.logits / sums.weight;
                    if (row_entropy < 0.0) row_entropy = 0.0;
                    if (targets != nullptr) {
                        const A target = to_accumulator(row_of<T>(logits, n)[targets[n]]);
                        of_target = (static_cast<double>(target) - shift) - log_sum;
                    }
                }
            }
            const Rounded<A> normalizer(shift, log_sum);
            static_cast<A*>(log_prob)[n] = static_cast<A>(of_target);
            static_cast<A*>(entropy)[n] = static_cast<A>(row_entropy);
            static_cast<A*>(log_normalizer)[n] = normalizer.high;
            static_cast<A*>(correction)[n] = weight_correction(normalizer, 1.0);
        }
    }

    // Fills the sums of a row and returns their shift, -inf where there is no token.
    template <class T>
    SB_INLINE double row_sums(int64_t n, Sums& sums) const {
        using A = Accumulator<T>;
        const ScaledExp<A, kFused> exponential_of(1.0);
        BlockBuffer<A> buffer;
        A shift = -infinity<A>();
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), buffer.data);
            if (std::fabs(shift) < infinity<A>()) {
                const Sums block = sum_block<A>(x, padded, shift, exponential_of);
                if (block.largest - static_cast<double>(shift) <= kLargestStep) {
                    sums.add(block);
                    continue;
                }
            }
            const A largest = block_maximum(x, padded);
            if (!(largest <= shift)) {
                sums.move_shift(static_cast<double>(shift) - static_cast<double>(largest));
                shift = largest;
            }
            if (shift != -infinity<A>()) sums.add(sum_block<A>(x, padded, shift, exponential_of));
        }
        return static_cast<double>(shift);
    }

    template <class A>
    static SB_INLINE Sums sum_block(const A* x, int64_t padded, A shift, ScaledExp<A, kFused> exponential_of) {
        A weight[kWidth], by_logit[kWidth], largest[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = A(0);
        for (int64_t l = 0; l < kWidth; ++l) largest[l] = -infinity<A>();
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = x[i + l] - shift;
                const A e = exponential_of(d);
                weight[l] += e;
                by_logit[l] += e * (d > kNegligible<A> ? d : kNegligible<A>);  // d may be -inf
                largest[l] = x[i + l] > largest[l] ? x[i + l] : largest[l];
            }
        }
        return {fold_lanes<A, kWidth>(weight), fold_lanes<A, kWidth>(by_logit),
                static_cast<double>(largest_lane<A, kWidth>(largest))};
    }
};

template <bool kFused>
struct Backward : TokenStatisticsBackward {
    // What the sweep needs to know of a row: pi = exp(x - shift) * inverse_sum, log pi = x - shift - log_sum.
    template <class A>
    struct Row {
        A shift, log_sum, inverse_sum, entropy, level, grad_entropy;

        template <bool kWithEntropy>
        SB_INLINE A gradient(A x, ScaledExp<A, kFused> exponential_of) const {
            const A d = x - shift;
            const A probability = exponential_of(d) * inverse_sum;
            if constexpr (!kWithEntropy) return probability * level;
            const A slope = level - grad_entropy * ((d - log_sum) + entropy);
            return probability * unless_zero(probability, slope);
        }
    };

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_logits, n);
            const A normalizer = static_cast<const A*>(log_normalizer)[n];
            const A of_target = at<A>(grad_log_prob, n), of_entropy = at<A>(grad_entropy, n);
            const A of_normalizer = at<A>(grad_log_normalizer, n);
            const bool arrives = of_target != A(0) || of_entropy != A(0) || of_normalizer != A(0);
            if (is_masked(shape.mask, n) || !arrives || normalizer == -infinity<A>()) {
                store_zeros(gradient, shape.vocab);
                continue;
            }
            const ScaledExp<A, kFused> exponential_of(1.0);
            BlockBuffer<A> buffer;
            const T* const x = row_of<T>(logits, n);
            const auto found = row_normalizer<A>(RowBlocks<T, A>{x}, shape.vocab, normalizer,
                                                 static_cast<const A*>(correction)[n], 1.0, exponential_of, buffer.data);
            const Row<A> row{found.shift,
                             static_cast<A>(-std::log(found.factor)),
                             static_cast<A>(found.factor),
                             static_cast<const A*>(entropy)[n],
                             of_normalizer - of_target,
                             of_entropy};
            // Read before the gradient may overwrite it.
            const int64_t target = of_target != A(0) ? targets[n] : 0;
            const A at_target = of_target + row.template gradient<true>(to_accumulator(x[target]), exponential_of);
            if (of_entropy != A(0)) {
                sweep<T, true>(x, row, gradient);
            } else {
                sweep<T, false>(x, row, gradient);
            }
            if (of_target != A(0)) gradient[target] = from_accumulator<T>(at_target);
        }
    }

    template <class A>
    static SB_INLINE A at(const void* arriving, int64_t n) {
        return arriving != nullptr ? static_cast<const A*>(arriving)[n] : A(0);
    }

    template <class T, bool kWithEntropy, class A>
    SB_INLINE void sweep(const T* x, const Row<A>& of_row, T* gradient) const {
        const ScaledExp<A, kFused> exponential_of(1.0);
        const Row<A> row = of_row;
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) {
            gradient[w] = from_accumulator<T>(row.template gradient<kWithEntropy>(to_accumulator(x[w]), exponential_of));
        }
    }
};

}  // namespace

void token_statistics_forward(const TokenStatisticsForward& in, int threads) {
    run_kernel<Forward>(in.shape, threads, in);
}

void token_statistics_backward(const TokenStatisticsBackward& in, int threads) {
    run_kernel<Backward>(in.shape, threads, in);
}

}  // namespace softbellman::cpu
