// A test-only stand-in for <cuda_runtime.h>: the .cu files of csrc/cuda, compiled by `g++ -x c++ -I tests/simt`,
// run on the CPU with one fiber per CUDA thread of a block (blocks one after another, one operating-system thread).
//
// What it finds: wrong indices, wrong reductions, a barrier some thread of the block never reaches, a warp exchange some
// lane of the mask never joins, a missing __syncthreads (shared memory starts as 0xFF bytes, so NaN or -1, and a thread
// runs on until it must wait; `simt_set_schedule` changes who runs first, so both orders of a race can be tried),
// out-of-bounds access with -fsanitize=address, misaligned vector access with -fsanitize=alignment.
// Blocks run one after another, in an order that the schedule changes too; a block that draws a ticket (atomicInc) without a
// __threadfence before it is refused.
// What it cannot find: races of the memory model (a fence in the wrong place, a stale line of a first-level cache), anything
// about a GPU's speed, clusters, asynchronous copies.
#pragma once
#include "machine.h"

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
using cudaStream_t = void*;

#define threadIdx (simt::machine().here->thread)
#define blockIdx (simt::machine().block_index)
#define blockDim (simt::machine().block)
#define gridDim (simt::machine().grid)

inline void __syncthreads() {
    simt::block_barrier();
}
inline void __syncwarp(unsigned mask = ~0u) {
    simt::exchange(mask, 0, simt::Warp::kSync);
}
inline unsigned __ballot_sync(unsigned mask, int p) {
    return unsigned(simt::exchange(mask, p != 0, simt::Warp::kBallot));
}
inline int __any_sync(unsigned mask, int p) {
    return __ballot_sync(mask, p) != 0;
}
inline int __all_sync(unsigned mask, int p) {
    return __ballot_sync(mask, p) == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T v) {
    return unsigned(simt::exchange(mask, simt::to_bits(v), simt::Warp::kMatch));
}
template <class T>
T __shfl_sync(unsigned mask, T v, int source) {
    return simt::from_bits<T>(simt::exchange(mask, simt::to_bits(v), source & 31));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits) {
    return __shfl_sync(mask, v, simt::lane() ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, int d) {
    return __shfl_sync(mask, v, simt::lane() + d < 32 ? simt::lane() + d : simt::lane());
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int d) {
    return __shfl_sync(mask, v, simt::lane() - d >= 0 ? simt::lane() - d : simt::lane());
}
template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T __ldcg(const T* p) {
    return *p;
}
template <class T>
T atomicAdd(T* p, T v) {
    T old = *p;
    *p = old + v;
    return old;
}
template <class T>
T atomicMax(T* p, T v) {
    T old = *p;
    *p = std::max(old, v);
    return old;
}
template <class T>
T atomicMin(T* p, T v) {
    T old = *p;
    *p = std::min(old, v);
    return old;
}
template <class T>
T atomicOr(T* p, T v) {
    T old = *p;
    *p = old | v;
    return old;
}
template <class T>
T atomicExch(T* p, T v) {
    T old = *p;
    *p = v;
    return old;
}
template <class T>
T atomicCAS(T* p, T expected, T v) {
    T old = *p;
    if (old == expected) *p = v;
    return old;
}
inline void __threadfence() {
    simt::machine().fenced = true;
}
inline unsigned atomicInc(unsigned* p, unsigned last) {
    simt::Machine& m = simt::machine();
    if (!m.fenced) simt::fail("a block drew a ticket without a __threadfence before it");
    m.fenced = false;
    const unsigned old = *p;
    *p = old >= last ? 0 : old + 1;
    return old;
}
inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
inline int __ffs(unsigned v) {
    return __builtin_ffs(int(v));
}
inline int __clz(unsigned v) {
    return v ? __builtin_clz(v) : 32;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
    return unsigned((std::uint64_t(high) << 32 | low) >> (n & 31));
}
using std::max;
using std::min;

inline cudaError_t cudaGetLastError() {
    auto e = simt::machine().error;
    simt::machine().error = cudaSuccess;
    return e;
}
inline const char* cudaGetErrorString(cudaError_t e) {
    return e == cudaSuccess              ? "no error"
           : e == cudaErrorInvalidDevice ? "invalid device ordinal"
                                         : "invalid configuration argument";
}
inline cudaError_t cudaGetDevice(int* d) {
    *d = simt::machine().device;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = int(simt::kDevices);
    return cudaSuccess;
}
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = simt::machine().multiprocessors;
    return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 0;
    return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int d) {
    if (d < 0 || d >= int(simt::kDevices)) return simt::machine().error = cudaErrorInvalidDevice;
    simt::machine().device = d;
    return cudaSuccess;
}
