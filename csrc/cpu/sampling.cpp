// Gumbel-max draw from softmax(logits / temperature) restricted to allowed columns, with its log-probability and the entropy
// of that distribution. One read of the logits; a row belongs to one thread.
//
// The scores are float32 for every dtype and have the same bits on every processor and vector width: this file is compiled
// with -ffp-contract=off. Random words are drawn, and their noise is computed, only for groups of columns that could still
// win: no Gumbel exceeds kLargestGumbel, and the smallest word of a group bounds its noise. Neither can change the result.
#include "../common/gumbel.h"
#include "../common/philox.h"
#include "block.h"
#include "simd.h"

namespace softbellman::cpu {
namespace {

constexpr int64_t kWidth = 32;
constexpr int64_t kQuads = kLanes / 4;

struct Best {
    float score;
    int64_t column;
};

struct Sample {
    Rows shape;
    Matrix logits;
    double temperature;
    uint64_t seed;
    uint64_t offset;
    uint64_t row_base;
    const uint8_t* forbidden;
    int64_t* tokens;
    void* log_prob;
    void* entropy;

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
        const ScaledExp<A> exponential_of(scale);
        const T* row = row_of<T>(logits, n);
        BlockBuffer<A> buffer;
        alignas(64) float scores[kBlock<A>];
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
            for (int64_t i = 0; i < padded; i += kLanes) draw_group(n, first + i, scores + i, best);
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
    static SB_INLINE void add_block(const A* x, int64_t padded, A maximum, ScaledExp<A> exponential_of, double scale,
                                    double& total, double& total_logits) {
        A weight[kWidth], by_logit[kWidth];
        for (int64_t l = 0; l < kWidth; ++l) weight[l] = by_logit[l] = A(0);
        for (int64_t i = 0; i < padded; i += kWidth) {
            for (int64_t l = 0; l < kWidth; ++l) {
                const A d = x[i + l] - maximum;
                const A e = exponential_of(d);
                weight[l] += e;
                by_logit[l] += e == A(0) ? A(0) : e * d;
            }
        }
        total += fold_lanes<A, kWidth>(weight);
        total_logits += scale * fold_lanes<A, kWidth>(by_logit);
    }

    // Adds noise to kLanes scores and keeps the best so far; a tie goes to the lowest column.
    SB_INLINE void draw_group(int64_t n, int64_t column, const float* scores, Best& best) const {
        float reachable = -infinity<float>();
        for (int64_t l = 0; l < kLanes; ++l) reachable = scores[l] > reachable ? scores[l] : reachable;
        if (!(reachable + kLargestGumbel > best.score)) return;

        alignas(64) uint32_t words[4][kQuads];
        const uint32_t first_quad = static_cast<uint32_t>(column / 4);
        for (int64_t k = 0; k < kQuads; ++k) {
            const PhiloxBlock random =
                philox_columns(first_quad + static_cast<uint32_t>(k), row_base + static_cast<uint64_t>(n), seed, offset);
            words[0][k] = random.word[0];
            words[1][k] = random.word[1];
            words[2][k] = random.word[2];
            words[3][k] = random.word[3];
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
        float largest = -infinity<float>();
        for (int64_t l = 0; l < kLanes; ++l) largest = noisy[l] > largest ? noisy[l] : largest;
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

void sample_forward(const Rows& shape, Matrix logits, double temperature, uint64_t seed, uint64_t offset, uint64_t row_base,
                    const uint8_t* forbidden, int64_t* tokens, void* log_prob, void* entropy) {
    run_kernel(Sample{shape, logits, temperature, seed, offset, row_base, forbidden, tokens, log_prob, entropy}, shape);
}

}  // namespace softbellman::cpu
