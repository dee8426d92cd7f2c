// Rows as strands: how the warps that read a row share it, inside one block or, where rows are few and long, over several.
//
// A strand is 256 consecutive vectors of 16 bytes (more in rows beyond 65,536 vectors, which have 256 strands), read by one
// warp and reduced to one partial state by a butterfly of shuffles; the partial states of a row are merged in one fixed
// order. The cut depends on the row's length alone, and which warp of which block reads a strand does not enter the result:
// a row has the same bits alone and in any batch, while the number of blocks that share it follows the number of rows.
//
// One block a row: the partial states meet in shared memory. Several (gridDim.y): in `partials`, memory of the caller, and
// the block that draws the last of the row's tickets merges them. The counter of tickets wraps to 0 with its last draw, so
// the same memory serves the next launch, and a launch replayed from a graph. No block waits for another.
#pragma once
#include "core/device.h"
#include "core/reduce.cuh"
#include "core/row_access.cuh"

namespace softbellman::cuda {

constexpr int kWarp = static_cast<int>(kWarpSize);  // the distance between the vectors of a lane
constexpr int kStrandVectors = 256;
constexpr int kMostStrands = 256;
constexpr int kMostSplitRows = kTickets;  // rows beyond this fill any device, a block each
constexpr int kSplitWarps = 4;            // of a block that shares its row with others
constexpr int kFillingWarps = 32;         // of a multiprocessor, enough to keep its memory busy
constexpr int kMostStateNumbers = 10;     // accumulators in a partial state

struct RowStrands {
    int count;           // of a row
    int vectors;         // of a strand
    unsigned* partials;  // [rows, count] partial states, or null: one block a row
    unsigned* tickets;   // [rows], 0 before and after every launch
};

inline RowStrands cut_row(std::int64_t vocab, int lanes) {
    const std::int64_t vectors = (vocab + lanes - 1) / lanes, most = std::int64_t{kStrandVectors} * kMostStrands;
    const std::int64_t length = kStrandVectors * ((vectors + most - 1) / most);
    return {static_cast<int>((vectors + length - 1) / length), static_cast<int>(length), nullptr, nullptr};
}

inline int multiprocessors(int device) {
    int count = 0;
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
    return count;
}

// How many blocks share each of `rows` rows where the caller gives memory for it: as many as fill the device.
inline unsigned blocks_for_a_row(std::int64_t rows, const RowStrands& strands, int device) {
    if (rows < 1 || rows > kMostSplitRows || strands.count <= kSplitWarps) return 1;
    const std::int64_t useful = (strands.count + kSplitWarps - 1) / kSplitWarps;
    const std::int64_t filling = std::int64_t{kFillingWarps} * multiprocessors(device) / (rows * kSplitWarps);
    return static_cast<unsigned>(std::max<std::int64_t>(1, std::min(useful, filling)));
}

struct StrandLaunch {
    dim3 grid, block;
    unsigned shared_bytes;
    RowStrands strands;
};

// Rows of one strand share a block, a warp each.
template <class T, class State>
StrandLaunch strand_launch(std::int64_t rows, std::int64_t vocab, unsigned most_threads, const Launch& launch) {
    static_assert(sizeof(State) <= kMostStateNumbers * sizeof(Accumulator<T>), "row_workspace counts on this");
    RowStrands strands = cut_row(vocab, kLanes<T>);
    const RowLaunch whole = row_launch(rows, vocab, kLanes<T>, most_threads);
    if (strands.count == 1) return {whole.grid, whole.block, 0, strands};
    const bool may_share = launch.partials != nullptr && launch.tickets != nullptr;
    const unsigned blocks = may_share ? blocks_for_a_row(rows, strands, launch.device) : 1;
    if (blocks > 1) {
        const std::int64_t needed = rows * strands.count * static_cast<std::int64_t>(sizeof(State));
        if (launch.partials_bytes < needed)
            throw std::invalid_argument("partials must have at least " + std::to_string(needed) + " bytes, got " +
                                        std::to_string(launch.partials_bytes) + ".");
        strands.partials = static_cast<unsigned*>(launch.partials);
        strands.tickets = launch.tickets;
        return {dim3(whole.grid.x, blocks), dim3(kSplitWarps * kWarpSize), 0, strands};
    }
    const unsigned threads = std::min(whole.block.x, strands.count * kWarpSize);
    return {whole.grid, dim3(threads), static_cast<unsigned>(strands.count * sizeof(State)), strands};
}

// Whether the block is the last of those that share a row to come here; what all of them wrote is then visible to it.
__device__ __forceinline__ bool draws_last_ticket(unsigned* tickets) {
    SB_SHARED(unsigned, drawn, 1);
    __threadfence();  // what the block wrote is visible to all before its ticket is
    __syncthreads();
    if (threadIdx.x == 0) drawn[0] = atomicInc(tickets, gridDim.y - 1);
    __syncthreads();
    const bool last = drawn[0] == gridDim.y - 1;
    __threadfence();
    return last;
}

// By words: a copy of bytes would become one store for each.
template <class State>
__device__ __forceinline__ void store_partial(unsigned* partial, const State& state) {
    unsigned words[sizeof(State) / 4];
    std::memcpy(words, &state, sizeof(State));
#pragma unroll
    for (unsigned k = 0; k < sizeof(State) / 4; ++k) partial[k] = words[k];
}

// Past the first-level cache, which is not coherent: it may hold a line that another row's partial states shared.
template <class State>
__device__ __forceinline__ State load_partial(const unsigned* partial, bool of_other_blocks) {
    unsigned words[sizeof(State) / 4];
#pragma unroll
    for (unsigned k = 0; k < sizeof(State) / 4; ++k) words[k] = of_other_blocks ? __ldcg(partial + k) : partial[k];
    State state;
    std::memcpy(static_cast<void*>(&state), words, sizeof(State));
    return state;
}

// The state of a whole row; true in the one thread that holds it. `read(first, last)` gives a lane's state of the vectors
// first + lane, first + lane + 32, ... below `last`, in all lanes of a warp. All threads of the row's blocks must call.
template <class State, class Read, class Merge>
__device__ __forceinline__ bool reduce_row(const RowStrands& strands, std::int64_t row, int vectors, State& result,
                                           const Read& read, const Merge& merge) {
    constexpr unsigned kWords = sizeof(State) / 4;
    SB_DYNAMIC_SHARED(memory);
    const bool split = strands.partials != nullptr;
    unsigned* const partials = split ? strands.partials + row * strands.count * kWords : reinterpret_cast<unsigned*>(memory);
    const int warps = static_cast<int>(blockDim.x / kWarpSize), warp = static_cast<int>(threadIdx.x / kWarpSize);
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    for (int s = static_cast<int>(blockIdx.y) * warps + warp; s < strands.count; s += static_cast<int>(gridDim.y) * warps) {
        const int first = s * strands.vectors, end = first + strands.vectors;
        const State part = warp_reduce(read(first, end < vectors ? end : vectors), merge);
        if (strands.count == 1) {  // the warp has the row to itself
            result = part;
            return lane == 0;
        }
        if (lane == 0) store_partial(partials + s * kWords, part);
    }
    bool merges = true;
    if (split)
        merges = draws_last_ticket(strands.tickets + row);
    else
        __syncthreads();
    if (merges && warp == 0) {
        if (lane < strands.count) result = load_partial<State>(partials + lane * kWords, split);
        for (int s = lane + kWarp; s < strands.count; s += kWarp)
            result = merge(result, load_partial<State>(partials + s * kWords, split));
        result = warp_reduce(result, merge);
    }
    if (!split) __syncthreads();  // the next row's partial states go to the same place
    return merges && threadIdx.x == 0;
}

}  // namespace softbellman::cuda
