// Reductions of a small record over the threads of one row: butterflies of shuffles inside a warp, then, when a row has
// more than one warp, one trip through shared memory. The shape of the tree depends on blockDim.x alone, so equal rows
// give equal bits wherever they stand. No float atomics.
#pragma once
#include <cstring>
#include <type_traits>

#include "core/launch.cuh"

namespace softbellman::cuda {

template <class State>
__device__ __forceinline__ State shuffle_xor(const State& state, int bits) {
    static_assert(std::is_trivially_copyable<State>::value && sizeof(State) % 4 == 0, "moved as 32-bit words");
    unsigned words[sizeof(State) / 4];
    std::memcpy(words, &state, sizeof(State));
#pragma unroll
    for (unsigned& word : words) word = __shfl_xor_sync(kFullWarp, word, bits);
    State other;
    std::memcpy(static_cast<void*>(&other), words, sizeof(State));
    return other;
}

template <class State, class Merge>
__device__ __forceinline__ State warp_reduce(State state, Merge merge) {
#pragma unroll
    for (int bits = kWarpSize / 2; bits > 0; bits /= 2) state = merge(state, shuffle_xor(state, bits));
    return state;
}

// The threads of one row are those with the same threadIdx.y; blockDim.x is 32, or the whole block belongs to the row.
// The result is valid where threadIdx.x == 0. Every thread of the row must call; shared memory may be reused at once.
template <class State, class Merge>
__device__ __forceinline__ State row_reduce(State state, const State& identity, Merge merge) {
    state = warp_reduce(state, merge);
    if (blockDim.x == kWarpSize) return state;
    constexpr unsigned kWords = sizeof(State) / 4;
    SB_SHARED(unsigned, partial, kWarpSize* kWords);
    const unsigned warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
    if (lane == 0) std::memcpy(partial + warp * kWords, &state, sizeof(State));
    __syncthreads();
    if (warp == 0) {
        state = identity;
        if (lane < blockDim.x / kWarpSize) std::memcpy(static_cast<void*>(&state), partial + lane * kWords, sizeof(State));
        state = warp_reduce(state, merge);
    }
    __syncthreads();
    return state;
}

}  // namespace softbellman::cuda
