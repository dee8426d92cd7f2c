// What BLEU's kernels on the device share: the builder of an index and the walk along a hypothesis.
#pragma once

#include "core/launch.cuh"
#include "payoffs/bleu.h"
#include "payoffs/ngram_index.h"

namespace softbellman::cuda {

struct BlockLanes {
    std::int32_t lane, size;
    __device__ void sync() const { __syncthreads(); }
    __device__ static unsigned long long claim(unsigned long long* slot, unsigned long long value) {
        return atomicCAS(slot, 0ull, value);
    }
    __device__ static std::int32_t add(std::int32_t* value, std::int32_t by) { return atomicAdd(value, by); }
    __device__ static void maximum(std::int32_t* value, std::int32_t other) { atomicMax(value, other); }
    __device__ static void minimum(std::int32_t* value, std::int32_t other) { atomicMin(value, other); }
};

// Calls at_prefix(active, t + 1, matches) in all lanes of each chunk; `active` where t is a position of the hypothesis.
template <class AtPrefix>
__device__ void walk(const NgramIndex& index, std::int32_t* counters, const NgramBatch& batch, const std::int64_t* tokens,
                     std::int32_t length, int lane, const AtPrefix& at_prefix) {
    const int max_order = batch.max_order;
    for (std::int32_t i = lane; i < index.node_count; i += 32) counters[i] = 0;
    __syncwarp();
    std::int64_t carried[kLargestOrder];  // matches of the chunks before
    std::int32_t left[kLargestOrder];     // nodes of the position before this chunk
    for (int n = 0; n < kLargestOrder; ++n) carried[n] = 0, left[n] = kNoNode;
    const unsigned up_to_here = kFullWarp >> (31 - lane);

    for (std::int32_t start = 0; start < length; start += 32) {
        const std::int32_t t = start + lane;
        std::int32_t token_node = kNoNode;
        if (t < length && !batch.is_unmatched(tokens[t])) token_node = index.find_token(tokens[t]);
        std::int64_t matches[kLargestOrder];
        std::int32_t node = token_node;
        for (int n = 0; n < max_order; ++n) {
            if (n > 0) {
                std::int32_t parent = __shfl_up_sync(kFullWarp, node, 1);
                const std::int32_t last = __shfl_sync(kFullWarp, node, 31);
                if (lane == 0) parent = left[n - 1];
                left[n - 1] = last;
                node = parent == kNoNode || token_node == kNoNode ? kNoNode : index.find_child(parent, token_node);
            }
            const unsigned equal = __match_any_sync(kFullWarp, node);
            bool match = false;
            if (node != kNoNode) {
                const std::int32_t before = counters[node];
                match = before + __popc(equal & up_to_here) <= index.clip[node];
            }
            __syncwarp();  // every lane has read its counter
            if (node != kNoNode && __ffs(static_cast<int>(equal)) - 1 == lane) counters[node] += __popc(equal);
            const unsigned matching = __ballot_sync(kFullWarp, match);
            matches[n] = carried[n] + __popc(matching & up_to_here);
            carried[n] += __popc(matching);
        }
        __syncwarp();  // counters are written before the next chunk reads them
        at_prefix(t < length, t + 1, matches);
    }
}

}  // namespace softbellman::cuda
