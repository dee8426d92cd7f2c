// Gumbel-max draw from softmax(logits / temperature) restricted to allowed columns, with its log-probability and the entropy
// of that distribution. One read of the logits; a row belongs to one thread.
//
// The scores are float32 for every dtype and have the same bits on every processor and vector width: this file is compiled
// with -ffp-contract=off. Random words are drawn, and their noise is computed, only for groups of columns that could still
// win: no Gumbel exceeds kLargestGumbel, and the smallest word of a group bounds its noise. Neither can change the result.
#include "losses/sampling.h"

#include "core/block.h"
#include "core/gumbel.h"
#include "core/philox_blocks.h"
#include "core/simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 32;
constexpr int64_t kQuads = kLanes / 4;

struct Best {
    float score;
    int64_t column;
};

template <bool>
struct Sample : SampleForward {
    template <class T>
    SB_INLINE void rows(int64_t first_row, int64_t last_row) const {
        using A = Accumulator<T>;
        for (int64_t n = first_row; n < last_row; ++n) {
            tokens[n] = 0;
            double results[2] = {0, 0};
            if (!is_masked(shape.mask, n)) row_draw<T>(n, results);
            static_cast<A*>(log_prob)[n] = static_cast<A>(results[0]);
            static_cast<A*>(entropy)[n] = static_cast<A>(results[1]);
        }
    }

    template <class T>
    SB_INLINE void row_draw(int64_t n, double* results) const {
        using A = Accumulator<T>;
        const double scale = 1.0 / temperature;
        const ScaledExp<A, false> exponential_of(scale);
        const T* row = row_of<T>(logits, n);
        BlockBuffer<A> buffer;
        alignas(64) float scores[kBlock<float>];
        Best best{-infinity<float>(), -1};
        A maximum = -infinity<A>();
        double total = 0.0, total_logits = 0.0;
        for (int64_t first = 0; first < shape.vocab; first += kBlock<A>) {
            const int64_t count = std::min(shape.vocab - first, kBlock<A>);
            const int64_t padded = round_to_lanes(count);
            const A* x = load_block<T, A>(row, first, count, -infinity<A>(), buffer.data);
            if (forbidden != nullptr) {
                const uint8_t* closed = forbidden + first;
                for (int64_t i = 0; i < count; ++i) buffer.data[i] = closed[i] != 0 ? -infinity<A>() : x[i];
                for (int64_t i = count; i < padded; ++i) buffer.data[i] = -infinity<A>();
                x = buffer.data;
            }
            const A block = block_maximum(x, padded);
            if (!(block <= maximum)) {
                const double drop = (static_cast<double>(maximum) - static_cast<double>(block)) * scale;
                if (total != 0.0) {
                    total_logits = std::exp(drop) == 0.0 ? 0.0 : std::exp(drop) * (total_logits + drop * total);
                    total *= std::exp(drop);
                }
                maximum = block;
            }
            if (block == -infinity<A>()) continue;
            add_block<A>(x, padded, maximum, exponential_of, scale, total, total_logits);
            const float inverse = static_cast<float>(scale);
            for (int64_t i = 0; i < padded; ++i) scores[i] = exact_multiply(static_cast<float>(x[i]), inverse);
            draw_block(n, first, padded, scores, best);
        }
        tokens[n] = best.column;
        if (best.column < 0) {
            results[0] = maximum == maximum ? -infinity<double>() : static_cast<double>(maximum);
            return;
        }
        const double log_sum = std::log(total);
        const double chosen = static_cast<double>(to_accumulator(row[best.column]));
        results[0] = (chosen - static_cast<double>(maximum)) * scale - log_sum;
        const double row_entropy = log_sum - total_logits / total;
        results[1] = row_entropy < 0.0 ? 0.0 : row_entropy;
    }

    template <class A>
    static SB_INLINE void add_block(const A* x, int64_t padded, A maximum, ScaledExp<A, false> exponential_of, double scale,
                                    double& total, double& total_logits) {
        A weight[kWidth], by_logit[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = x[i + l] - maximum;
                const A e = exponential_of(d);
                weight[l] += e;
                by_logit[l] += e * unless_zero(e, d);
            }
        }
        total += fold_lanes<A, kWidth>(weight);
        total_logits += scale * fold_lanes<A, kWidth>(by_logit);
    }

    // Halves are compared as vectors; a plain loop over the lanes would be one chain of scalar comparisons.
    template <int64_t kCount>
    static SB_INLINE void fold_maximum(float* lanes) {
        for (int64_t l = 0; l < kCount / 2; ++l)
            lanes[l] = lanes[l + kCount / 2] > lanes[l] ? lanes[l + kCount / 2] : lanes[l];
        if constexpr (kCount > 2) fold_maximum<kCount / 2>(lanes);
    }

    // The largest of kLanes; NaN is passed over.
    static SB_INLINE float largest_score(const float* scores) {
        alignas(64) float lanes[kLanes];
        for (int64_t l = 0; l < kLanes; ++l) lanes[l] = scores[l] > -infinity<float>() ? scores[l] : -infinity<float>();
        fold_maximum<kLanes>(lanes);
        return lanes[0];
    }

    // The groups of a block that could still win, drawn together: kQuads random blocks each.
    SB_INLINE void draw_block(int64_t n, int64_t first, int64_t padded, const float* scores, Best& best) const {
        constexpr int64_t kGroups = kBlock<float> / kLanes;
        int64_t groups[kGroups], count = 0;
        const uint32_t number = static_cast<uint32_t>(noise.row(n));
        alignas(64) uint32_t index[kBlock<float> / 4 + kPhiloxGroup], row[kBlock<float> / 4 + kPhiloxGroup];
        alignas(64) uint64_t low[kBlock<float> / 4 + kPhiloxGroup], high[kBlock<float> / 4 + kPhiloxGroup];
        for (int64_t i = 0; i < padded; i += kLanes) {
            if (!(largest_score(scores + i) + kLargestGumbel > best.score)) continue;
            for (int64_t k = 0; k < kQuads; ++k) {
                index[count * kQuads + k] = static_cast<uint32_t>((first + i) / 4 + k);
                row[count * kQuads + k] = number;
            }
            groups[count++] = i;
        }
        philox_blocks(index, row, count * kQuads, noise.seed, noise.offset, low, high);
        for (int64_t g = 0; g < count; ++g)
            draw_group(first + groups[g], scores + groups[g], low + g * kQuads, high + g * kQuads, best);
    }

    // Adds noise to kLanes scores and keeps the best so far; a tie goes to the lowest column.
    SB_INLINE void draw_group(int64_t column, const float* scores, const uint64_t* low, const uint64_t* high,
                              Best& best) const {
        const float reachable = largest_score(scores);
        if (!(reachable + kLargestGumbel > best.score)) return;

        alignas(64) uint32_t words[4][kQuads];
        for (int64_t k = 0; k < kQuads; ++k) {
            words[0][k] = static_cast<uint32_t>(low[k]);
            words[1][k] = static_cast<uint32_t>(low[k] >> 32);
            words[2][k] = static_cast<uint32_t>(high[k]);
            words[3][k] = static_cast<uint32_t>(high[k] >> 32);
        }
        // The smallest random word gives the largest noise: most groups end here, before any logarithm.
        uint32_t smallest = 0xffffffffu;
        for (int64_t w = 0; w < 4; ++w) {
            for (int64_t k = 0; k < kQuads; ++k) smallest = words[w][k] < smallest ? words[w][k] : smallest;
        }
        if (!(reachable + largest_gumbel_from(smallest) > best.score)) return;

        alignas(64) float noise[4][kQuads];
        for (int64_t w = 0; w < 4; ++w) {
            for (int64_t k = 0; k < kQuads; ++k) noise[w][k] = gumbel_from_bits(words[w][k]);
        }
        alignas(64) float noisy[kLanes];
        for (int64_t k = 0; k < kQuads; ++k) {
            for (int64_t w = 0; w < 4; ++w) noisy[4 * k + w] = exact_add(scores[4 * k + w], noise[w][k]);
        }
        const float largest = largest_score(noisy);
        if (!(largest > best.score)) return;
        for (int64_t l = 0; l < kLanes; ++l) {
            if (noisy[l] == largest) {
                best = {largest, column + l};
                return;
            }
        }
    }
};

}  // namespace

void sample_forward(const SampleForward& in, int threads) {
    SampleForward now = in;
    now.noise = in.noise.read();
    run_kernel<Sample>(in.shape, threads, now);
}

}  // namespace softbellman::cpu
