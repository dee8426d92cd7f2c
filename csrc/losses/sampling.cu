// A token of every row by the Gumbel-max rule under softmax(logits / temperature) without the forbidden tokens, its
// log-probability and the entropy of that distribution.
//
// One read of [rows, vocab]; a warp a row up to 256 vectors of 16 bytes, a block or several a row beyond (split_rows.cuh).
// The noise is a function of (seed, offset, number of the row, column) and the score is computed without contraction, so the
// token is the CPU kernel's, bit for bit. An element whose score could not reach the best one of its warp, however large its
// noise, costs no logarithm, and four such neighbours cost no random number: rounding is monotone, so this changes no
// result.
#include "losses/sampling.h"

#include "core/families.cuh"
#include "core/gumbel.h"
#include "losses/row_states.cuh"

namespace softbellman::cuda {
namespace {

template <class T>
struct SampleRows {
    using A = Accumulator<T>;
    const T* logits;
    std::int64_t logits_stride, rows;
    int vocab;
    A scale;
    float inverse_temperature;
    NoiseStream noise;
    const std::uint8_t* forbidden;
    const std::uint8_t* mask;
};

template <class A>
struct SampleState {
    PolicyState<A> policy;
    float score;
    int column;

    __device__ __forceinline__ void offer(float other_score, int other_column) {
        if (other_score > score || (other_score == score && other_column >= 0 && other_column < column)) {
            score = other_score;
            column = other_column;
        }
    }
};

// No smaller than gumbel_from_bits(random): -log(-log(1 - w)) <= -log(w).
__device__ __forceinline__ float gumbel_bound(std::uint32_t random) {
    const float w = (static_cast<float>(random) + 0.5f) * 2.3283064365386963e-10f;
#ifdef __CUDA_ARCH__
    return 1e-3f - 0.6931471806f * __log2f(w);
#else
    return 1e-3f - 0.6931471806f * std::log2(w);
#endif
}

// The scores of a packet's elements, four columns to a random block; `known` is a score some element of the row has.
template <class A, int kN>
__device__ __forceinline__ void draw(SampleState<A>& state, const float (&scaled)[kN], int column, std::uint64_t row,
                                     std::uint64_t seed, std::uint64_t offset, float known) {
    constexpr int kQuad = kN < 4 ? kN : 4;
#pragma unroll
    for (int q = 0; q < kN; q += kQuad) {
        float top = scaled[q];
#pragma unroll
        for (int k = 1; k < kQuad; ++k) top = larger(top, scaled[q + k]);
        if (!(exact_add(top, kLargestGumbel) >= known) || top == -infinity<float>()) continue;
        const PhiloxBlock block = philox_columns(static_cast<std::uint32_t>(column + q) / 4, row, seed, offset);
        const bool upper_half = kQuad < 4 && (column + q) % 4 != 0;
#pragma unroll
        for (int k = 0; k < kQuad; ++k) {
            const std::uint32_t random = upper_half ? block.word[(k + 2) % 4] : block.word[k];
            if (exact_add(scaled[q + k], gumbel_bound(random)) < known) continue;
            const float score = exact_add(scaled[q + k], gumbel_from_bits(random));
            if (score > -infinity<float>()) state.offer(score, column + q + k);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kForwardThreads<T>)
    sample_forward_kernel(SampleRows<T> in, RowStrands strands, std::int64_t* tokens, Accumulator<T>* log_prob,
                          Accumulator<T>* entropy) {
    using A = Accumulator<T>;
    constexpr int kE = kLanes<T>;
    const NoiseStream noise = in.noise.read();
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                tokens[row] = 0;
                set(log_prob, row, A(0));
                set(entropy, row, A(0));
            }
            continue;
        }
        const std::uint64_t number = noise.row(row);
        const T* logits = in.logits + row * in.logits_stride;
        const RowReader<T> reader(logits, in.vocab);
        float known = -infinity<float>();  // of all strands the warp has read
        const auto read = [&](int first, int last) {
            SampleState<A> state{{}, -infinity<float>(), -1};
            for (int base = first; base < last; base += kWarp) {  // every lane of a warp goes round equally often
                const int j = base + warp_lane();
                Packet<T> packets[1];
                reader.template read<1>(j, kWarp, from_accumulator<T>(-infinity<A>()), packets);
                A x[kE];
                float scaled[kE];
                const A zeros[kE] = {};
                widen(packets[0], x);
#pragma unroll
                for (int k = 0; k < kE; ++k) {
                    if (in.forbidden != nullptr && reader.inside(j, k) && in.forbidden[reader.column(j, k)] != 0)
                        x[k] = -infinity<A>();
                    scaled[k] = exact_multiply(static_cast<float>(x[k]), in.inverse_temperature);
                    x[k] *= in.scale;
                }
                extend<false>(state.policy, x, zeros);
                draw(state, scaled, reader.column(j, 0), number, noise.seed, noise.offset, known);
                known = larger(known, state.score);
#pragma unroll
                for (int bits = kWarp / 2; bits > 0; bits /= 2)
                    known = larger(known, __shfl_xor_sync(kFullWarp, known, bits));
            }
            return state;
        };
        const auto merge = [](SampleState<A> a, const SampleState<A>& b) {
            a.policy.merge(b.policy);
            a.offer(b.score, b.column);
            return a;
        };
        SampleState<A> state{{}, -infinity<float>(), -1};
        if (!reduce_row(strands, row, reader.vectors(), state, read, merge)) continue;
        const bool possible = state.column >= 0;
        tokens[row] = state.column;
        const A chosen = possible ? to_accumulator(logits[state.column]) * in.scale - state.policy.maximum : A(0);
        // without a token -inf, or the NaN that all its candidates were
        set(log_prob, row,
            possible                   ? chosen - logarithm(state.policy.sum)
            : state.policy.sum == A(0) ? -infinity<A>()
                                       : state.policy.sum);
        set(entropy, row, possible ? state.policy.terms(A(0)).entropy : A(0));
    }
}

}  // namespace

void sample_forward(const SampleForward& in, const Launch& launch) {
    launch_rows("sample_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const SampleRows<T> rows{static_cast<const T*>(in.logits.data),
                                 in.logits.stride,
                                 in.shape.rows,
                                 static_cast<int>(in.shape.vocab),
                                 A(1 / in.temperature),
                                 static_cast<float>(1 / in.temperature),
                                 in.noise,
                                 in.forbidden,
                                 in.shape.mask};
        const auto kernel = sample_forward_kernel<T>;
        const StrandLaunch plan =
            strand_launch<T, SampleState<A>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
        SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, rows, plan.strands, in.tokens,
                  static_cast<A*>(in.log_prob), static_cast<A*>(in.entropy));
    });
}

}  // namespace softbellman::cuda
