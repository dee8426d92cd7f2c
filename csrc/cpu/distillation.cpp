// Cross entropy of pi = softmax(x) under an oracle softmax(q / tau), a target token, or a mixture of both (eq 17), and the
// gradient to x. Without q it is the negative log-likelihood of the target.
//
// Forward: one read of each input. Backward: one read of each and one write; both exponentials wait in scratch rows until
// their sums are known, so rounding of the saved normalisers does not reach the gradient. A row belongs to one thread.
#include "../common/distillation_math.h"
#include "block.h"
#include "simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 32;

template <class A>
SB_INLINE A weight_of_oracle(const void* oracle_weight, bool has_oracle, int64_t n) {
    if (!has_oracle) return A(0);
    return oracle_weight != nullptr ? static_cast<const A*>(oracle_weight)[n] : A(1);
}

struct Forward {
    Rows shape;
    Matrix logits;
    Matrix q;
    double tau;
    const int64_t* targets;
    const void* oracle_weight;
    void* loss;
    void* log_normalizer;
    void* oracle_log_normalizer;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            double results[3] = {0, 0, 0};
            if (!is_masked(shape.mask, n)) row_terms<T>(n, results);
            static_cast<A*>(loss)[n] = static_cast<A>(results[0]);
            static_cast<A*>(log_normalizer)[n] = static_cast<A>(results[1]);
            if (oracle_log_normalizer != nullptr) static_cast<A*>(oracle_log_normalizer)[n] = static_cast<A>(results[2]);
        }
    }

    template <class T>
    SB_INLINE void row_terms(int64_t n, double* results) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / tau;
        const ScaledExp<A> exponential_of(1.0), oracle_exponential(scale);
        const A alpha = weight_of_oracle<A>(oracle_weight, q.data != nullptr, n);
        BlockBuffer<A> x_buffer, q_buffer;
        A maximum = -infinity<A>();        // of the logits, or near it
        double total = 0.0, origin = 0.0;  // origin: the logit at the oracle's most likely action
        OracleState<double> oracle;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row_of<T>(logits, n), first, count, -infinity<A>(), x_buffer.data);
            add_exponentials(x, padded, 1.0, exponential_of, maximum, total);
            if (alpha == A(0)) continue;
            const A* y = load_block<T, A>(row_of<T>(q, n), first, count, -infinity<A>(), q_buffer.data);
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
        results[1] = static_cast<double>(maximum);
        results[2] = oracle.log_normalizer(scale);
        if (maximum == -infinity<A>()) return;
        const double above_maximum = std::log(total);
        results[1] += above_maximum;
        double target_shift = 0.0;
        if (alpha != A(1)) {
            const double target = static_cast<double>(to_accumulator(row_of<T>(logits, n)[targets[n]]));
            target_shift = (static_cast<double>(maximum) - target) + above_maximum;
        }
        const double policy_shift = (static_cast<double>(maximum) - origin) + above_maximum;
        results[0] = distillation_row_loss(policy_shift, target_shift, oracle, static_cast<double>(alpha));
    }

    template <class A>
    static SB_INLINE void add_oracle(const A* x, const A* y, int64_t padded, A maximum, A origin,
                                     ScaledExp<A> exponential_of, OracleState<double>& oracle) {
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

struct Backward {
    Rows shape;
    Matrix logits;
    Matrix q;
    double tau;
    const int64_t* targets;
    const void* oracle_weight;
    const void* log_normalizer;
    const void* oracle_log_normalizer;
    const void* grad_loss;
    MutableMatrix grad_logits;

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        Scratch<A> scratch(shape.vocab, q.data != nullptr ? 2 : 1);
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const gradient = row_of<T>(grad_logits, n);
            const A upstream = is_masked(shape.mask, n) ? A(0) : static_cast<const A*>(grad_loss)[n];
            const A normalizer = static_cast<const A*>(log_normalizer)[n];
            if (upstream == A(0) || normalizer == -infinity<A>()) {
                store_zeros(gradient, shape.vocab);
                continue;
            }
            const double scale = 1.0 / tau;
            const A alpha = weight_of_oracle<A>(oracle_weight, q.data != nullptr, n);
            const A oracle_normalizer = alpha != A(0) ? static_cast<const A*>(oracle_log_normalizer)[n] : -infinity<A>();
            const bool has_oracle = oracle_normalizer != -infinity<A>();

            const A* const policy = scratch.row(0);
            const double policy_sum = exponentials<T>(row_of<T>(logits, n), normalizer, 1.0, scratch.row(0));
            const double policy_weight =
                (has_oracle ? static_cast<double>(alpha) : 0.0) + (1.0 - static_cast<double>(alpha));
            const A policy_factor = static_cast<A>(static_cast<double>(upstream) * policy_weight / policy_sum);
            const A* oracle = nullptr;
            A oracle_factor = A(0);
            if (has_oracle) {
                oracle = scratch.row(1);
                const A shift = static_cast<A>(tau * static_cast<double>(oracle_normalizer));
                const double oracle_sum = exponentials<T>(row_of<T>(q, n), shift, scale, scratch.row(1));
                oracle_factor = static_cast<A>(static_cast<double>(upstream) * static_cast<double>(alpha) / oracle_sum);
                for (int64_t w = 0; w < shape.vocab; ++w) {
                    gradient[w] = from_accumulator<T>(policy[w] * policy_factor - oracle[w] * oracle_factor);
                }
            } else {
                for (int64_t w = 0; w < shape.vocab; ++w) gradient[w] = from_accumulator<T>(policy[w] * policy_factor);
            }
            if (alpha == A(1)) continue;
            const int64_t target = targets[n];
            const A soft = policy[target] * policy_factor - (has_oracle ? oracle[target] * oracle_factor : A(0));
            gradient[target] = from_accumulator<T>(soft - (A(1) - alpha) * upstream);
        }
    }

    // weights = exp(scale * (x - shift)) over a row; returns their sum.
    template <class T, class A>
    SB_INLINE double exponentials(const T* row, A shift, double scale, A* weights) const {
        const ScaledExp<A> exponential_of(scale);
        BlockBuffer<A> buffer;
        if (!usable_shift(shift, scale)) shift = row_maximum<T, A>(row, shape.vocab, buffer.data);
        double total = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const A* x = load_block<T, A>(row, first, count, -infinity<A>(), buffer.data);
            A lanes[kLanes];
            for (int64_t l = 0; l < kLanes; ++l) lanes[l] = A(0);
            for (int64_t i = 0; i < round_to_lanes(count); i += kLanes) {
                for (int64_t l = 0; l < kLanes; ++l) {
                    const A e = exponential_of(x[i + l] - shift);
                    weights[first + i + l] = e;
                    lanes[l] += e;
                }
            }
            total += fold_lanes<A, kLanes>(lanes);
        }
        return total;
    }
};

}  // namespace

void distillation_forward(const Rows& shape, Matrix logits, Matrix q, double tau, const int64_t* targets,
                          const void* oracle_weight, void* loss, void* log_normalizer, void* oracle_log_normalizer) {
    run_kernel(Forward{shape, logits, q, tau, targets, oracle_weight, loss, log_normalizer, oracle_log_normalizer}, shape);
}

void distillation_backward(const Rows& shape, Matrix logits, Matrix q, double tau, const int64_t* targets,
                           const void* oracle_weight, const void* log_normalizer, const void* oracle_log_normalizer,
                           const void* grad_loss, MutableMatrix grad_logits) {
    run_kernel(Backward{shape, logits, q, tau, targets, oracle_weight, log_normalizer, oracle_log_normalizer, grad_loss,
                        grad_logits},
               shape);
}

}  // namespace softbellman::cpu
