// A row is walked in blocks that fit the first-level cache: one sweep for the block's maximum, a second for its sums, so
// memory is read once. Sums run in kLanes fixed lanes of the accumulator type and are folded into a double after every
// block: the order is fixed, whatever the thread count, the alignment or the row's place in the batch.
#pragma once

#include <algorithm>

#include "core/rows.h"
#include "core/vector_math.h"

namespace softbellman::cpu {

constexpr int64_t kLanes = 64;

// Before a loop whose results may lie where its inputs lie, element on element: without it the compiler tests for overlap
// and falls back to single elements.
#if defined(__clang__)
#define SB_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define SB_INDEPENDENT _Pragma("GCC ivdep")
#else
#define SB_INDEPENDENT
#endif

template <class A>
constexpr int64_t kBlock = sizeof(A) == 4 ? 2048 : 1024;

SB_INLINE int64_t round_to_lanes(int64_t count) {
    return (count + kLanes - 1) / kLanes * kLanes;
}

template <class T, class A>
struct IsAccumulator {
    static constexpr bool value = false;
};
template <class A>
struct IsAccumulator<A, A> {
    static constexpr bool value = true;
};

// Room for one block, on the stack.
template <class A>
struct BlockBuffer {
    alignas(64) A data[kBlock<A>];
};

// Elements first .. first + count of a row as accumulators, padded to whole lanes. The row itself is used where it can be.
template <class T, class A>
SB_INLINE const A* load_block(const T* row, int64_t first, int64_t count, A padding, A* buffer) {
    if constexpr (IsAccumulator<T, A>::value) {
        if (count % kLanes == 0) return row + first;
    }
    const T* source = row + first;
    for (int64_t i = 0; i < count; ++i) buffer[i] = to_accumulator(source[i]);
    for (int64_t i = count; i < round_to_lanes(count); ++i) buffer[i] = padding;
    return buffer;
}

// Sum of kWidth lanes in a fixed tree, in double.
template <class A, int64_t kWidth>
SB_INLINE double fold_lanes(const A* lanes) {
    double tree[kWidth / 2];
    for (int64_t l = 0; l < kWidth / 2; ++l) {
        tree[l] = static_cast<double>(lanes[l]) + static_cast<double>(lanes[l + kWidth / 2]);
    }
    for (int64_t width = kWidth / 4; width > 0; width /= 2) {
        for (int64_t l = 0; l < width; ++l) tree[l] += tree[l + width];
    }
    return tree[0];
}

// The largest of kWidth lanes; NaN is passed over.
template <class A, int64_t kWidth>
SB_INLINE A largest_lane(const A* lanes) {
    A largest = -infinity<A>();
    for (int64_t l = 0; l < kWidth; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
    return largest;
}

// The largest element; NaN is passed over, unless all others are -inf: then it is returned, so that no kernel takes a row
// of NaN for a row without any possible action.
template <class A>
SB_INLINE A block_maximum(const A* x, int64_t padded) {
    A lanes[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = -infinity<A>();
    for (int64_t i = 0; i < padded; i += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    }
    const A largest = largest_lane<A, kLanes>(lanes);
    if (largest != -infinity<A>()) return largest;
    for (int64_t i = 0; i < padded; ++i) {
        if (x[i] != x[i]) return x[i];
    }
    return largest;
}

// The element of `companion` that stands where `x`, padded, is `maximum`, or `fallback` where that element is not finite. It
// serves as the origin of a weighted sum of the companion: the heaviest term is then exactly zero, and so is its rounding.
template <class A>
SB_INLINE double origin_at(const A* x, const A* companion, int64_t count, A maximum, double fallback) {
    int64_t group = 0;
    for (bool found = false; group < count; group += kLanes) {
        for (int64_t l = 0; l < kLanes; ++l) found |= x[group + l] == maximum;
        if (found) break;
    }
    for (int64_t i = group; i < count; ++i) {
        if (x[i] == maximum) return std::fabs(companion[i]) < infinity<A>() ? static_cast<double>(companion[i]) : fallback;
    }
    return fallback;
}

// Sum of exp(scale (x - shift)), and the largest x, found in the same sweep; of more lanes both would not fit the registers.
template <class A, class Exp>
SB_INLINE double sum_and_maximum(const A* x, int64_t padded, A shift, Exp exponential_of, A& maximum) {
    constexpr int64_t kWidth = kLanes / 2;
    A lanes[kWidth], largest[kWidth];
    for (int64_t l = 0; l < kWidth; ++l) lanes[l] = A(0);
    for (int64_t l = 0; l < kWidth; ++l) largest[l] = -infinity<A>();
    for (int64_t i = 0; i < padded; i += kWidth) {
        for (int64_t l = 0; l < kWidth; ++l) {
            lanes[l] += exponential_of(x[i + l] - shift);
            largest[l] = x[i + l] > largest[l] ? x[i + l] : largest[l];
        }
    }
    maximum = largest_lane<A, kWidth>(largest);
    return fold_lanes<A, kWidth>(lanes);
}

// Adds a block to total = sum of exp(scale (x - shift)). The shift stays while the sums stay far from overflowing; the first
// block sets it to its maximum, and so does one that exceeds it by more than kLargestExcess units of 1 / scale.
constexpr double kLargestExcess = 40.0;

template <class A, class Exp>
SB_INLINE void add_exponentials(const A* x, int64_t padded, double scale, Exp exponential_of, A& shift, double& total) {
    if (std::fabs(shift) < infinity<A>()) {
        A largest;
        const double sum = sum_and_maximum(x, padded, shift, exponential_of, largest);
        if ((static_cast<double>(largest) - static_cast<double>(shift)) * scale <= kLargestExcess) {
            total += sum;
            return;
        }
    }
    const A block = block_maximum(x, padded);
    if (!(block <= shift)) {
        if (total != 0.0) total *= std::exp((static_cast<double>(shift) - static_cast<double>(block)) * scale);
        shift = block;
    }
    if (shift == -infinity<A>()) return;
    A unused;
    total += sum_and_maximum(x, padded, shift, exponential_of, unused);
}

template <class T>
SB_INLINE void store_zeros(T* row, int64_t vocab) {
    memset(static_cast<void*>(row), 0, static_cast<size_t>(vocab) * sizeof(T));
}

// A row as what walks over whole rows ask for: `first` .. `first + count` as accumulators, padded to whole lanes by -inf.
template <class T, class A>
struct RowBlocks {
    const T* row;

    SB_INLINE const A* operator()(int64_t first, int64_t count, A* buffer) const {
        return load_block<T, A>(row, first, count, -infinity<A>(), buffer);
    }
};

// x + tau * prior, padded to whole lanes; `x` may be `buffer`.
template <class A>
SB_INLINE const A* add_prior(const A* x, const A* prior, A tau, int64_t padded, A* buffer) {
    SB_INDEPENDENT
    for (int64_t i = 0; i < padded; ++i) buffer[i] = x[i] + tau * prior[i];
    return buffer;
}

// A row of q + tau * prior: what weights and values of a policy under a prior are made of.
template <class T, class A>
struct PriorBlocks {
    const T* q;
    const T* prior;
    A tau;

    SB_INLINE const A* operator()(int64_t first, int64_t count, A* buffer) const {
        for (int64_t i = 0; i < count; ++i) {
            buffer[i] = to_accumulator(q[first + i]) + tau * to_accumulator(prior[first + i]);
        }
        for (int64_t i = count; i < round_to_lanes(count); ++i) buffer[i] = -infinity<A>();
        return buffer;
    }
};

// The largest accumulator of a whole row, for kernels that walk the row more than once anyway.
template <class A, class Blocks>
SB_INLINE A row_maximum(const Blocks& blocks, int64_t vocab, A* buffer) {
    A largest = -infinity<A>();
    for (int64_t first = 0; first < vocab; first += kBlock<A>) {
        const int64_t count = vocab - first < kBlock<A> ? vocab - first : kBlock<A>;
        const A* x = blocks(first, count, buffer);
        const A candidate = block_maximum(x, round_to_lanes(count));
        if (!(candidate <= largest)) largest = candidate;
    }
    return largest;
}

// Sum of exp(scale (x - shift)) over a row, as far as nothing overflows.
template <class A, class Blocks, class Exp>
SB_INLINE double sum_of_exponentials(const Blocks& blocks, int64_t vocab, A shift, Exp exponential_of, A* buffer) {
    double total = 0.0;
    for (int64_t first = 0; first < vocab; first += kBlock<A>) {
        const int64_t count = std::min(vocab - first, kBlock<A>);
        const A* x = blocks(first, count, buffer);
        A unused;
        total += sum_and_maximum(x, round_to_lanes(count), shift, exponential_of, unused);
    }
    return total;
}

// A number as forward kernels save it for backward ones: rounded to the statistic type, and what the rounding took.
template <class A>
struct Rounded {
    A high, low;

    // The sum a + b, `a` the part of it that may be large.
    SB_INLINE Rounded(double a, double b) : high(static_cast<A>(a + b)), low(A(0)) {
        if (std::fabs(high) < infinity<A>()) low = static_cast<A>((a - static_cast<double>(high)) + b);
    }
};

// exp(scale (x - exact)) for the exact number that `rounded` stands for is exp(scale (x - rounded.high)) times this.
template <class A>
SB_INLINE A weight_correction(const Rounded<A>& rounded, double scale) {
    return static_cast<A>(std::exp(-static_cast<double>(rounded.low) * scale));
}

// The normaliser of a row in a second walk: its weights are exp(scale (x - shift)) * factor.
template <class A>
struct Normalizer {
    A shift;
    double factor;
};

// From the saved one, exp(scale (x - high)) * correction. Where the rounding of `high` comes near to overflowing the
// exponential, the row is walked for another.
template <class A, class Blocks, class Exp>
SB_INLINE Normalizer<A> row_normalizer(const Blocks& blocks, int64_t vocab, A high, A correction, double scale,
                                       Exp exponential_of, A* buffer) {
    const double rounding = std::fabs(static_cast<double>(high)) * scale * (sizeof(A) == 4 ? 6e-8 : 1.2e-16);
    if (rounding < 8.0) return {high, static_cast<double>(correction)};
    const A maximum = row_maximum<A>(blocks, vocab, buffer);
    return {maximum, 1.0 / sum_of_exponentials<A>(blocks, vocab, maximum, exponential_of, buffer)};
}

SB_INLINE bool is_masked(const uint8_t* mask, int64_t row) {
    return mask != nullptr && mask[row] == 0;
}

template <class T>
SB_INLINE const T* row_of(Matrix matrix, int64_t row) {
    return static_cast<const T*>(matrix.data) + row * matrix.stride;
}
template <class T>
SB_INLINE T* row_of(MutableMatrix matrix, int64_t row) {
    return static_cast<T*>(matrix.data) + row * matrix.stride;
}

}  // namespace softbellman::cpu
