// The online states of a row (online_softmax.h, moments.h), extended by one packet of a row at a time: the maximum moves at
// most once a packet, and the exponential is one instruction. Results differ from element-wise pushes by rounding alone.
#pragma once
#include "core/moments.h"
#include "core/online_softmax.h"
#include "core/row_access.cuh"

namespace softbellman::cuda {

constexpr double kLogTwoOfE = 1.4426950408889634;

// 2^x; float: relative error 2^-22, results below 2^-126 become 0 (they are only ever added to sums of at least 1).
__device__ __forceinline__ float power_of_two(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return std::exp2(x);
#endif
}
__device__ __forceinline__ double power_of_two(double x) {
    return exp2(x);
}

template <class A>
__device__ __forceinline__ A larger(A a, A b) {
    return a > b ? a : b;
}
__device__ __forceinline__ float larger(float a, float b) {
    return fmaxf(a, b);
}

template <class A, int kN>
__device__ __forceinline__ A largest(const A (&values)[kN]) {
    A top = values[0];
#pragma unroll
    for (int k = 1; k < kN; ++k) top = larger(top, values[k]);
    return top;
}

template <class T>
__device__ __forceinline__ void widen(const Packet<T>& packet, Accumulator<T> (&values)[kLanes<T>]) {
    T lanes[kLanes<T>];
    std::memcpy(lanes, &packet.bits, 16);
#pragma unroll
    for (int k = 0; k < kLanes<T>; ++k) values[k] = to_accumulator(lanes[k]);
}

// `scale` multiplies the values inside the exponential; scale_log2 = scale * log2(e).
template <class A, int kN>
__device__ __forceinline__ void extend(SoftmaxState<A>& state, const A (&x)[kN], A scale, A scale_log2) {
    const A top = largest(x);
    if (top > state.maximum) {
        state.sum *= shifted_weight(state.maximum, top, scale);
        state.maximum = top;
    }
    if (state.maximum == -infinity<A>()) {  // nothing but -inf so far; a NaN must not be lost
        for (int k = 0; k < kN; ++k) state.push(x[k], scale);
        return;
    }
    A sum = A(0);
#pragma unroll
    for (int k = 0; k < kN; ++k) sum += power_of_two((x[k] - state.maximum) * scale_log2);
    state.sum += sum;
}

// x + tau * prior, in place of x.
template <class A, int kN>
__device__ __forceinline__ void add_prior(A (&x)[kN], const A (&prior)[kN], A tau) {
#pragma unroll
    for (int k = 0; k < kN; ++k) x[k] += tau * prior[k];
}

template <class A, int kN>
__device__ __forceinline__ void extend(Moments<A>& moments, const A (&x)[kN]) {
    A sum = A(0);
#pragma unroll
    for (int k = 0; k < kN; ++k) sum += x[k];
    if (!(sum > -infinity<A>())) {  // some element does not exist, or is NaN
#pragma unroll
        for (int k = 0; k < kN; ++k) moments.push(x[k]);
        return;
    }
    Moments<A> packet;
    packet.count = A(kN);
    packet.mean = sum * (A(1) / A(kN));
#pragma unroll
    for (int k = 0; k < kN; ++k) packet.deviation += (x[k] - packet.mean) * (x[k] - packet.mean);
    moments.merge(packet);
}

}  // namespace softbellman::cuda
