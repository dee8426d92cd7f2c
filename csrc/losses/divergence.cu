// Divergence of two distributions over the vocabulary (KL in either direction, Jensen-Shannon) and its gradients to both.
//
// Forward: two phases over strands (split_rows.cuh), the normalisers and the sum of terms that are not negative, which needs
// both normalisers. A row that one block owns goes through both in one launch and finds the row in the second-level cache,
// unless it is very long; rows that several blocks share take a launch a phase, since no block waits for another. One sweep
// for both phases was not chosen: it serves the KL divergences alone, and its sums cancel where a row's heaviest token is no
// typical one. Between the phases the results hold maximum and sum of a row in place of normaliser and correction.
// Backward: one read of each input and one write of each gradient, nothing reduced (a second read of rows whose normaliser
// is beyond 2^27).
#include "losses/divergence.h"

#include "core/families.cuh"

namespace softbellman::cuda {
namespace {

// One of the two distributions, softmax(x / temperature); Number is an accumulator, const in the backward pass.
template <class T, class Number>
struct DivergenceSide {
    using A = Accumulator<T>;
    const T* x;
    std::int64_t stride;
    A temperature, scale, scale_log2;
    Number *log_normalizer, *correction;
};

template <class T, class Number>
struct DivergenceRows {
    DivergenceSide<T, Number> first, second;
    std::int64_t rows;
    int vocab;
    Accumulator<T> beta;  // weight of the first in the mixture
    const std::uint8_t* mask;
    Number *divergence, *mixture_divergence;
};

template <class A>
struct SoftmaxPair {
    SoftmaxState<A> first, second;
};

template <class A>
struct DivergenceSums {
    A divergence = A(0), mixture = A(0);
};

// Maximum and sum of a side, as the first phase left them.
template <class A>
struct SideWeights {
    A maximum, sum;

    __device__ __forceinline__ bool exists() const { return maximum != -infinity<A>(); }
};

enum Phases : int { kNormalize = 1, kSum = 2 };

template <class A, class Side>
__device__ __forceinline__ void write_normalizer(const Side& side, std::int64_t row, const SideWeights<A>& weights) {
    const bool finite = weights.maximum - weights.maximum == A(0);
    const A normalizer = finite ? weights.maximum + side.temperature * logarithm(weights.sum) : weights.maximum;
    side.log_normalizer[row] = normalizer;
    side.correction[row] = weight_correction(weights.maximum, weights.sum, normalizer, side.scale);
}

// Both normalisers of a row; true in the one thread that holds them.
template <class T, class Side>
__device__ __forceinline__ bool normalize(const RowStrands& strands, std::int64_t row, const RowReader<T>& first,
                                          const RowReader<T>& second, const Side& first_side, const Side& second_side,
                                          SoftmaxPair<Accumulator<T>>& pair) {
    using A = Accumulator<T>;
    constexpr int kU = sizeof(T) == 2 ? 1 : kPacketsTwoInputs;
    const T absent = from_accumulator<T>(-infinity<A>());
    const auto read = [&](int begin, int end) {
        SoftmaxPair<A> state;
        for (int j = begin + warp_lane(); j < end; j += kU * kWarp) {
            Packet<T> first_packets[kU], second_packets[kU];
            first.template read<kU>(j, kWarp, absent, first_packets);
            second.template read<kU>(j, kWarp, absent, second_packets);
#pragma unroll
            for (int u = 0; u < kU; ++u) {
                A x[kLanes<T>];
                widen(first_packets[u], x);
                extend(state.first, x, first_side.scale, first_side.scale_log2);
                widen(second_packets[u], x);
                extend(state.second, x, second_side.scale, second_side.scale_log2);
            }
        }
        return state;
    };
    const A first_scale = first_side.scale, second_scale = second_side.scale;
    const auto merge = [first_scale, second_scale](SoftmaxPair<A> a, const SoftmaxPair<A>& b) {
        a.first.merge(b.first, first_scale);
        a.second.merge(b.second, second_scale);
        return a;
    };
    return reduce_row(strands, row, first.vectors(), pair, read, merge);
}

template <class T, bool kMixture>
__global__ void __launch_bounds__(kForwardThreads<T>)
    divergence_forward_kernel(DivergenceRows<T, Accumulator<T>> in, RowStrands strands, int phases) {
    using A = Accumulator<T>;
    const T absent = from_accumulator<T>(-infinity<A>());
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        if (is_masked(in.mask, row)) {
            if (threadIdx.x == 0) {
                write_normalizer(in.first, row, SideWeights<A>{A(0), A(1)});
                write_normalizer(in.second, row, SideWeights<A>{A(0), A(1)});
                in.divergence[row] = A(0);
                in.mixture_divergence[row] = A(0);
            }
            continue;
        }
        const RowReader<T> first(in.first.x + row * in.first.stride, in.vocab);
        const RowReader<T> second(in.second.x + row * in.second.stride, in.vocab);
        if (phases & kNormalize) {
            SoftmaxPair<A> pair;
            if (normalize(strands, row, first, second, in.first, in.second, pair)) {
                in.first.log_normalizer[row] = pair.first.maximum;
                in.first.correction[row] = pair.first.sum;
                in.second.log_normalizer[row] = pair.second.maximum;
                in.second.correction[row] = pair.second.sum;
            }
            if (!(phases & kSum)) continue;
            if (blockDim.x == kWarpSize)
                __syncwarp();
            else
                __syncthreads();
        }
        const SideWeights<A> p{in.first.log_normalizer[row], in.first.correction[row]};
        const SideWeights<A> o{in.second.log_normalizer[row], in.second.correction[row]};
        const bool exist = p.exists() && o.exists();
        const A first_factor = A(1) / p.sum, second_factor = A(1) / o.sum;
        const A offset = exist ? logarithm(o.sum) - logarithm(p.sum) : A(0);
        const auto read = [&](int begin, int end) {
            DivergenceSums<A> state;
            for (int j = begin + warp_lane(); j < end && exist; j += kWarp) {
                Packet<T> first_packet[1], second_packet[1];
                first.template read<1>(j, kWarp, absent, first_packet);
                second.template read<1>(j, kWarp, absent, second_packet);
                A x[kLanes<T>], y[kLanes<T>];
                widen(first_packet[0], x);
                widen(second_packet[0], y);
#pragma unroll
                for (int k = 0; k < kLanes<T>; ++k) {
                    const A a = x[k] - p.maximum, b = y[k] - o.maximum;
                    const A d = scaled_difference<true>(a, in.first.scale, b, in.second.scale) + offset;
                    const A weight = power_of_two(a * in.first.scale_log2) * first_factor;
                    const A other_weight = power_of_two(b * in.second.scale_log2) * second_factor;
                    if (kMixture) {
                        const MixtureTerm<A> token = mixture_term(weight, other_weight, d, in.beta);
                        state.divergence += token.term;
                        state.mixture += other_weight * unless_zero(other_weight, token.log_second);
                    } else {
                        state.divergence += divergence_term(weight, other_weight, d);
                    }
                }
            }
            return state;
        };
        const auto merge = [](DivergenceSums<A> a, const DivergenceSums<A>& b) {
            a.divergence += b.divergence;
            a.mixture += b.mixture;
            return a;
        };
        DivergenceSums<A> state;
        const bool writes = reduce_row(strands, row, first.vectors(), state, read, merge);
        if (blockDim.x == kWarpSize) __syncwarp();  // every lane has read what is written next
        if (!writes) continue;
        in.divergence[row] = state.divergence;
        in.mixture_divergence[row] = state.mixture;
        write_normalizer(in.first, row, p);
        write_normalizer(in.second, row, o);
    }
}

// The weights of a row: exp((x - shift) scale) factor.
template <class A>
struct RowWeights {
    A shift, scale, factor;

    __device__ __forceinline__ A operator()(A x) const { return exponential((x - shift) * scale) * factor; }
};

// From what the forward pass saved; all threads of the row must call.
template <class T, class Side>
__device__ __forceinline__ RowWeights<Accumulator<T>> row_weights(const Side& side, std::int64_t row, int vocab) {
    using A = Accumulator<T>;
    RowWeights<A> weights{side.log_normalizer[row], side.scale, A(1)};
    if (is_coarse(weights.shift * weights.scale))
        weights.factor = A(1) / row_total(side.x + row * side.stride, vocab, [&](A x, int) { return weights(x); });
    else
        weights.factor = side.correction[row];
    return weights;
}

template <class T>
struct DivergenceGradients {
    const Accumulator<T>* upstream;
    T* first;
    std::int64_t first_stride;
    T* second;
    std::int64_t second_stride;
};

template <class T, bool kMixture>
__global__ void __launch_bounds__(kBackwardThreads)
    divergence_backward_kernel(DivergenceRows<T, const Accumulator<T>> in, DivergenceGradients<T> out) {
    using A = Accumulator<T>;
    const T absent = from_accumulator<T>(-infinity<A>());
    const int begin = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    const int stride = static_cast<int>(gridDim.y * blockDim.x);
    for (std::int64_t row = first_row(); row < in.rows; row += row_step()) {
        T* const to_first = out.first != nullptr ? out.first + row * out.first_stride : nullptr;
        T* const to_second = out.second != nullptr ? out.second + row * out.second_stride : nullptr;
        const A upstream = is_masked(in.mask, row) ? A(0) : out.upstream[row];
        const bool exist = upstream != A(0) && in.first.log_normalizer[row] != -infinity<A>() &&
                           in.second.log_normalizer[row] != -infinity<A>();
        if (!exist || in.divergence[row] == infinity<A>()) {
            if (to_first != nullptr) write_zeros(to_first, in.vocab, begin, stride);
            if (to_second != nullptr) write_zeros(to_second, in.vocab, begin, stride);
            continue;
        }
        const auto p_of = row_weights<T>(in.first, row, in.vocab), o_of = row_weights<T>(in.second, row, in.vocab);
        const A offset = logarithm(p_of.factor) - logarithm(o_of.factor);
        const DivergenceSlopes<A> slopes{in.divergence[row], in.mixture_divergence[row], in.beta};
        const A by_first = upstream * in.first.scale, by_second = upstream * in.second.scale;
        const int lead = store_lead(to_first != nullptr ? to_first : to_second);
        const RowReader<T> first(in.first.x + row * in.first.stride, in.vocab, lead);
        const RowReader<T> second(in.second.x + row * in.second.stride, in.vocab, lead);
        const RowWriter<T> first_writer(to_first, in.vocab, lead), second_writer(to_second, in.vocab, lead);
        for (int j = begin; j < first.vectors(); j += stride) {
            Packet<T> first_packet[1], second_packet[1];
            first.template read<1>(j, stride, absent, first_packet);
            second.template read<1>(j, stride, absent, second_packet);
            A x[kLanes<T>], y[kLanes<T>];
            widen(first_packet[0], x);
            widen(second_packet[0], y);
            T for_first[kLanes<T>], for_second[kLanes<T>];
#pragma unroll
            for (int k = 0; k < kLanes<T>; ++k) {
                const A p = p_of(x[k]), o = o_of(y[k]);
                const A d = scaled_difference<true>(x[k] - p_of.shift, p_of.scale, y[k] - o_of.shift, o_of.scale) + offset;
                A first_slope, second_slope;
                if (kMixture) {
                    const MixtureTerm<A> token = mixture_term(p, o, d, slopes.beta);
                    first_slope = slopes.mixture_to_first(p, token);
                    second_slope = slopes.mixture_to_second(o, token);
                } else {
                    first_slope = slopes.to_first(p, d);
                    second_slope = slopes.to_second(p, o, d);
                }
                for_first[k] = from_accumulator<T>(by_first * first_slope);
                for_second[k] = from_accumulator<T>(by_second * second_slope);
            }
            if (to_first != nullptr) first_writer.write(j, for_first);
            if (to_second != nullptr) second_writer.write(j, for_second);
        }
    }
}

template <class T, class Number, class Void>
DivergenceSide<T, Number> divergence_side(Matrix x, double temperature, Void* log_normalizer, Void* correction) {
    using A = Accumulator<T>;
    return {static_cast<const T*>(x.data),
            x.stride,
            A(temperature),
            A(1 / temperature),
            A(kLogTwoOfE / temperature),
            static_cast<Number*>(log_normalizer),
            static_cast<Number*>(correction)};
}

template <class T, class Number, class Parameters>
DivergenceRows<T, Number> divergence_rows(const Parameters& in) {
    auto first = divergence_side<T, Number>(in.other, in.other_temperature, in.other_log_normalizer, in.other_correction);
    auto second = divergence_side<T, Number>(in.logits, in.temperature, in.log_normalizer, in.correction);
    if (!other_is_first(in.kind, in.beta)) std::swap(first, second);
    return {first,
            second,
            in.shape.rows,
            static_cast<int>(in.shape.vocab),
            Accumulator<T>(weight_of_first(in.kind, in.beta)),
            in.shape.mask,
            static_cast<Number*>(in.divergence),
            static_cast<Number*>(in.mixture_divergence)};
}

}  // namespace

void divergence_forward(const DivergenceForward& in, const Launch& launch) {
    launch_rows("divergence_forward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const auto rows = divergence_rows<T, A>(in);
        const auto kernel =
            in.kind == kJensenShannon ? divergence_forward_kernel<T, true> : divergence_forward_kernel<T, false>;
        const StrandLaunch plan =
            strand_launch<T, SoftmaxPair<A>>(in.shape.rows, in.shape.vocab, kForwardThreads<T>, launch);
        const auto run = [&](int phases) {
            SB_LAUNCH(kernel, plan.grid, plan.block, plan.shared_bytes, launch.stream, rows, plan.strands, phases);
        };
        if (plan.strands.partials == nullptr) return run(kNormalize | kSum);
        run(kNormalize);
        check_launch("divergence_forward");
        run(kSum);
    });
}

void divergence_backward(const DivergenceBackward& in, const Launch& launch) {
    if (in.grad_logits.data == nullptr && in.grad_other.data == nullptr) return;
    launch_rows("divergence_backward", in.shape, launch, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using A = Accumulator<T>;
        const bool swapped = !other_is_first(in.kind, in.beta);
        const MutableMatrix to_first = swapped ? in.grad_logits : in.grad_other;
        const MutableMatrix to_second = swapped ? in.grad_other : in.grad_logits;
        const DivergenceGradients<T> out{static_cast<const A*>(in.grad_divergence), static_cast<T*>(to_first.data),
                                         to_first.stride, static_cast<T*>(to_second.data), to_second.stride};
        const auto kernel =
            in.kind == kJensenShannon ? divergence_backward_kernel<T, true> : divergence_backward_kernel<T, false>;
        const RowLaunch plan = elementwise_launch(in.shape.rows, in.shape.vocab, kLanes<T>, 1, launch.device);
        const auto rows = divergence_rows<T, const A>(in);
        SB_LAUNCH(kernel, plan.grid, plan.block, 0, launch.stream, rows, out);
    });
}

}  // namespace softbellman::cuda
