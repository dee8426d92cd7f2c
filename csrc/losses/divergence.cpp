// Divergence of two distributions over the vocabulary (KL in either direction, Jensen-Shannon) and its gradients to both.
//
// Forward: one read of each input from memory in two sweeps over a row; the first makes both normalisers, their shifts
// following the maxima from afar, the second finds the row in the cache and sums terms that are not negative. Backward: one
// read of each and one write of each gradient in one sweep; what rounding took from the saved normalisers was saved with
// them and does not reach the gradient. A row belongs to one thread.
#include "losses/divergence.h"

#include "core/block.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 16;  // two exponentials and two polynomials of more lanes would not fit the vector registers

// One of the two distributions, softmax(x / temperature), and where its normaliser goes.
struct ForwardSide {
    Matrix x;
    double temperature;
    void *log_normalizer, *correction;
};

struct BackwardSide {
    Matrix x;
    double temperature;
    const void *log_normalizer, *correction;
    MutableMatrix gradient;
};

// The weights of a row: exp((x - shift) / temperature) * factor.
template <class A, bool kFused>
struct Weights {
    ScaledExp<A, kFused> exponential_of;
    A scale, shift, factor;

    SB_INLINE Weights(double temperature, A row_shift, double row_factor)
        : exponential_of(1.0 / temperature),
          scale(static_cast<A>(1.0 / temperature)),
          shift(row_shift),
          factor(static_cast<A>(row_factor)) {}

    SB_INLINE A operator()(A x) const { return exponential_of(x - shift) * factor; }
};

// Both distributions of a row; `offset` is the logarithm of the first's factor over the second's.
template <class A, bool kFused>
struct Pair {
    Weights<A, kFused> first, second;
    A offset;

    // log(first / second) of a token.
    SB_INLINE A log_ratio(A x, A y) const {
        return scaled_difference<kFused>(x - first.shift, first.scale, y - second.shift, second.scale) + offset;
    }
};

template <bool kFused>
struct Forward : DivergenceForward {
    ForwardSide first, second;
    double weight;  // of the first in the mixture

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            Terms terms;
            if (!is_masked(shape.mask, n)) terms = row_terms<T>(n);
            static_cast<A*>(divergence)[n] = static_cast<A>(terms.divergence);
            static_cast<A*>(mixture_divergence)[n] = static_cast<A>(terms.mixture);
            save<A>(first, n, terms.first);
            save<A>(second, n, terms.second);
        }
    }

    // Sum of exp((x - shift) / temperature).
    struct Total {
        double shift = 0.0, sum = 1.0;
    };

    struct Terms {
        double divergence = 0.0, mixture = 0.0;
        Total first, second;
    };

    template <class A>
    static SB_INLINE void save(const ForwardSide& side, int64_t n, const Total& total) {
        const bool exists = total.shift != -infinity<double>();
        const Rounded<A> normalizer(total.shift, exists ? side.temperature * std::log(total.sum) : 0.0);
        static_cast<A*>(side.log_normalizer)[n] = normalizer.high;
        static_cast<A*>(side.correction)[n] = weight_correction(normalizer, 1.0 / side.temperature);
    }

    template <class T>
    SB_INLINE Terms row_terms(int64_t n) const {
        using A = Accumulator<T>;
        const double first_scale = 1.0 / first.temperature, second_scale = 1.0 / second.temperature;
        const ScaledExp<A, kFused> first_exponential(first_scale), second_exponential(second_scale);
        const T* const first_row = row_of<T>(first.x, n);
        const T* const second_row = row_of<T>(second.x, n);
        BlockBuffer<A> first_buffer, second_buffer;
        A first_shift = -infinity<A>(), second_shift = -infinity<A>();
        double first_total = 0.0, second_total = 0.0;
        for (int64_t start = 0; start < shape.vocab; start += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - start, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(first_row, start, count, -infinity<A>(), first_buffer.data);
            add_exponentials(x, padded, first_scale, first_exponential, first_shift, first_total);
            const A* y = load_block<T, A>(second_row, start, count, -infinity<A>(), second_buffer.data);
            add_exponentials(y, padded, second_scale, second_exponential, second_shift, second_total);
        }
        Terms terms;
        terms.first = {static_cast<double>(first_shift), first_total};
        terms.second = {static_cast<double>(second_shift), second_total};
        if (first_shift == -infinity<A>() || second_shift == -infinity<A>()) return terms;
        const Pair<A, kFused> pair{{first.temperature, first_shift, 1.0 / first_total},
                                   {second.temperature, second_shift, 1.0 / second_total},
                                   static_cast<A>(std::log(second_total) - std::log(first_total))};
        for (int64_t start = 0; start < shape.vocab; start += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - start, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(first_row, start, count, -infinity<A>(), first_buffer.data);
            const A* y = load_block<T, A>(second_row, start, count, -infinity<A>(), second_buffer.data);
            if (kind == kJensenShannon) {
                add_mixture_terms(x, y, padded, pair, terms);
            } else {
                terms.divergence += sum_terms(x, y, padded, pair);
            }
        }
        return terms;
    }

    template <class A>
    static SB_INLINE double sum_terms(const A* x, const A* y, int64_t padded, const Pair<A, kFused>& row) {
        const Pair<A, kFused> pair = row;
        A sums[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) sums[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = pair.log_ratio(x[i + l], y[i + l]);
                sums[l] += divergence_term(pair.first(x[i + l]), pair.second(y[i + l]), d);
            }
        }
        return fold_lanes<A, kWidth>(sums);
    }

    template <class A>
    SB_INLINE void add_mixture_terms(const A* x, const A* y, int64_t padded, const Pair<A, kFused>& row,
                                     Terms& terms) const {
        const Pair<A, kFused> pair = row;
        const A of_first = static_cast<A>(weight);
        A sums[kWidth], mixture[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) sums[l] = mixture[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A p = pair.first(x[i + l]), o = pair.second(y[i + l]);
                const MixtureTerm<A> token = mixture_term(p, o, pair.log_ratio(x[i + l], y[i + l]), of_first);
                sums[l] += token.term;
                mixture[l] += o * unless_zero(o, token.log_second);
            }
        }
        terms.divergence += fold_lanes<A, kWidth>(sums);
        terms.mixture += fold_lanes<A, kWidth>(mixture);
    }
};

template <bool kFused>
struct Backward : DivergenceBackward {
    BackwardSide first, second;
    double weight;  // of the first in the mixture

    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            T* const to_first = first.gradient.data != nullptr ? row_of<T>(first.gradient, n) : nullptr;
            T* const to_second = second.gradient.data != nullptr ? row_of<T>(second.gradient, n) : nullptr;
            const A upstream = is_masked(shape.mask, n) ? A(0) : static_cast<const A*>(grad_divergence)[n];
            const bool exists = static_cast<const A*>(first.log_normalizer)[n] != -infinity<A>() &&
                                static_cast<const A*>(second.log_normalizer)[n] != -infinity<A>();
            const bool infinite = exists && static_cast<const A*>(divergence)[n] == infinity<A>();
            if (upstream == A(0) || !exists || infinite) {
                if (to_first != nullptr) store_zeros(to_first, shape.vocab);
                if (to_second != nullptr) store_zeros(to_second, shape.vocab);
                continue;
            }
            const Pair<A, kFused> pair = row_pair<T>(n);
            if (kind == kJensenShannon) {
                row_gradients<T, true>(n, pair, upstream, to_first, to_second);
            } else {
                row_gradients<T, false>(n, pair, upstream, to_first, to_second);
            }
        }
    }

    template <class T>
    SB_INLINE Pair<Accumulator<T>, kFused> row_pair(int64_t n) const {
        using A = Accumulator<T>;
        const auto of_first = row_weights<T>(first, n), of_second = row_weights<T>(second, n);
        return {{first.temperature, of_first.shift, of_first.factor},
                {second.temperature, of_second.shift, of_second.factor},
                static_cast<A>(std::log(of_first.factor) - std::log(of_second.factor))};
    }

    template <class T>
    SB_INLINE Normalizer<Accumulator<T>> row_weights(const BackwardSide& side, int64_t n) const {
        using A = Accumulator<T>;
        BlockBuffer<A> buffer;
        const double scale = 1.0 / side.temperature;
        return row_normalizer<A>(RowBlocks<T, A>{row_of<T>(side.x, n)}, shape.vocab,
                                 static_cast<const A*>(side.log_normalizer)[n], static_cast<const A*>(side.correction)[n],
                                 scale, ScaledExp<A, kFused>(scale), buffer.data);
    }

    template <class T, bool kMixture, class A>
    SB_INLINE void row_gradients(int64_t n, const Pair<A, kFused>& pair, A upstream, T* to_first, T* to_second) const {
        if (to_first != nullptr && to_second != nullptr)
            sweep<T, kMixture, true, true>(n, pair, upstream, to_first, to_second);
        if (to_first != nullptr && to_second == nullptr)
            sweep<T, kMixture, true, false>(n, pair, upstream, to_first, to_second);
        if (to_first == nullptr && to_second != nullptr)
            sweep<T, kMixture, false, true>(n, pair, upstream, to_first, to_second);
    }

    // Both gradients of an element are written after both of its inputs are read.
    template <class T, bool kMixture, bool kToFirst, bool kToSecond, class A>
    SB_INLINE void sweep(int64_t n, const Pair<A, kFused>& row, A upstream, T* to_first, T* to_second) const {
        const Pair<A, kFused> pair = row;
        const DivergenceSlopes<A> slopes{static_cast<const A*>(divergence)[n], static_cast<const A*>(mixture_divergence)[n],
                                         static_cast<A>(weight)};
        const A by_first = upstream * pair.first.scale, by_second = upstream * pair.second.scale;
        const T* const x = row_of<T>(first.x, n);
        const T* const y = row_of<T>(second.x, n);
        SB_INDEPENDENT
        for (int64_t w = 0; w < shape.vocab; ++w) {
            const A a = to_accumulator(x[w]), b = to_accumulator(y[w]);
            const A p = pair.first(a), o = pair.second(b), d = pair.log_ratio(a, b);
            A for_first, for_second;
            if constexpr (kMixture) {
                const MixtureTerm<A> token = mixture_term(p, o, d, slopes.beta);
                for_first = slopes.mixture_to_first(p, token);
                for_second = slopes.mixture_to_second(o, token);
            } else {
                for_first = slopes.to_first(p, d);
                for_second = slopes.to_second(p, o, d);
            }
            if constexpr (kToFirst) to_first[w] = from_accumulator<T>(by_first * for_first);
            if constexpr (kToSecond) to_second[w] = from_accumulator<T>(by_second * for_second);
        }
    }
};

}  // namespace

void divergence_forward(const DivergenceForward& in, int threads) {
    ForwardSide first{in.other, in.other_temperature, in.other_log_normalizer, in.other_correction};
    ForwardSide second{in.logits, in.temperature, in.log_normalizer, in.correction};
    if (!other_is_first(in.kind, in.beta)) std::swap(first, second);
    run_kernel<Forward>(in.shape, threads, in, first, second, weight_of_first(in.kind, in.beta));
}

void divergence_backward(const DivergenceBackward& in, int threads) {
    BackwardSide first{in.other, in.other_temperature, in.other_log_normalizer, in.other_correction, in.grad_other};
    BackwardSide second{in.logits, in.temperature, in.log_normalizer, in.correction, in.grad_logits};
    if (!other_is_first(in.kind, in.beta)) std::swap(first, second);
    run_kernel<Backward>(in.shape, threads, in, first, second, weight_of_first(in.kind, in.beta));
}

}  // namespace softbellman::cpu
