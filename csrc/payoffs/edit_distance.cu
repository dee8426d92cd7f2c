// Edit distances of every prefix and optimal completion values on the device; the formulas are the CPU's.
//
// measure_prefixes, describe_states: a warp for each hypothesis, lanes along the distance row, 32 entries at a time. A step
// of the row is a minimum over a lane's own and its left neighbour's old entry, then the running minimum of entry - j over
// the lanes (the insertions), carried from one chunk to the next. The row lies in the workspace; a lane reads and writes its
// own entries alone. describe_states then finds the row's minimum and ballots which reference tokens continue it.
// write_values: a block for each row [V] (a warp where rows are short) stores one number with 16-byte stores, waits for
// itself, and puts in the optimal tokens, the special ones and eos: one write of the values, no read.
// Everything is an integer until it is stored, so results do not depend on the batch and are the CPU's, bit for bit.
#include "payoffs/edit_distance.h"

#include <algorithm>

#include "core/families.cuh"
#include "core/launch.cuh"
#include "core/row_access.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kWalkThreads = 128, kWriteThreads = 256;
constexpr std::int32_t kFar = 0x7fffffff;

__device__ std::int32_t cut_length(const EditDistanceProblem& problem, const std::int64_t* tokens, std::int32_t stated,
                                   int lane) {
    if (!problem.has_eos) return stated;
    for (std::int32_t start = 0; start < stated; start += 32) {
        const bool here = start + lane < stated && tokens[start + lane] == problem.eos;
        const unsigned ends = __ballot_sync(kFullWarp, here);
        if (ends) return start + __ffs(static_cast<int>(ends)) - 1;
    }
    return stated;
}

struct Reference {
    const std::int64_t* tokens;
    std::int32_t length;
    int lane;

    __device__ Reference(const EditDistanceProblem& problem, std::int64_t hypothesis, int lane_)
        : tokens(problem.reference(hypothesis)),
          length(cut_length(problem, tokens, problem.stated_reference_length(hypothesis), lane_)),
          lane(lane_) {}

    // The row of the empty prefix.
    __device__ void start(std::int32_t* row) const {
        for (std::int32_t j = lane; j <= length; j += 32) row[j] = j;
    }

    // The next row; returns its last entry to all lanes.
    __device__ std::int32_t advance(std::int32_t* row, std::int64_t token) const {
        std::int32_t diagonal_end = 0, running_end = kFar, last = 0;
        for (std::int32_t start = 0; start <= length; start += 32) {
            const std::int32_t j = start + lane;
            const bool active = j <= length;
            const std::int32_t above = active ? row[j] : 0;
            std::int32_t diagonal = __shfl_up_sync(kFullWarp, above, 1);
            if (lane == 0) diagonal = diagonal_end;
            diagonal_end = __shfl_sync(kFullWarp, above, 31);
            std::int32_t running = kFar;
            if (j == 0)
                running = above + 1;
            else if (active)
                running = edit_without_left(above, diagonal, tokens[j - 1] == token) - j;
            for (int distance = 1; distance < 32; distance *= 2) {
                const std::int32_t other = __shfl_up_sync(kFullWarp, running, distance);
                if (lane >= distance) running = min(running, other);
            }
            running = min(running, running_end);
            running_end = __shfl_sync(kFullWarp, running, 31);
            if (active) row[j] = running + j;
            last = running + j;
        }
        return __shfl_sync(kFullWarp, last, length % 32);
    }

    // owed[j]: twice the number of tokens from j on that cannot be produced, plus 1 where token j itself cannot.
    __device__ void count_owed(std::int32_t* owed, const CompletionRequest& request) const {
        std::int32_t behind = 0;
        for (std::int32_t start = length / 32 * 32; start >= 0; start -= 32) {
            const std::int32_t j = start + lane;
            const bool unproduced = j < length && !request.produced(tokens[j]);
            const unsigned all = __ballot_sync(kFullWarp, unproduced);
            if (j <= length) owed[j] = 2 * (behind + __popc(all >> lane)) + unproduced;
            behind += __popc(all);
        }
    }

    __device__ void describe(std::int32_t* state, std::int64_t words, const std::int32_t* row,
                             const std::int32_t* owed) const {
        std::int32_t best = kFar;
        for (std::int32_t j = lane; j <= length; j += 32) best = min(best, row[j] + owed[j] / 2);
        for (int bits = 16; bits > 0; bits /= 2) best = min(best, __shfl_xor_sync(kFullWarp, best, bits));
        unsigned any_token = 0;
        std::int32_t last = 0;
        for (std::int32_t start = 0; start <= length; start += 32) {
            const std::int32_t j = start + lane;
            const std::int32_t entry = j <= length ? row[j] : 0, tail = j <= length ? owed[j] : 0;
            const bool minimal = j < length && entry + tail / 2 == best;
            any_token |= __ballot_sync(kFullWarp, minimal && tail % 2 == 1);
            const unsigned continuing = __ballot_sync(kFullWarp, minimal && tail % 2 == 0);
            if (lane == 0 && kBits + start / 32 < words) state[kBits + start / 32] = static_cast<std::int32_t>(continuing);
            last = entry;
        }
        for (std::int64_t word = kBits + length / 32 + 1 + lane; word < words; word += 32) state[word] = 0;
        const std::int32_t gap = __shfl_sync(kFullWarp, last, length % 32) - best;
        if (lane == 0) {
            state[kGap] = gap;
            state[kFill] = gap - (any_token == 0);
        }
    }
};

// Calls per_hypothesis(hypothesis, lane) with all lanes of a warp.
template <class PerHypothesis>
__device__ void for_each_hypothesis(const EditDistanceProblem& problem, const PerHypothesis& per_hypothesis) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarpSize);
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
    for (std::int64_t hypothesis = first; hypothesis < problem.hypothesis_count(); hypothesis += warps)
        per_hypothesis(hypothesis, lane);
}

__global__ void measure_prefixes(EditDistanceProblem problem, EditDistanceRequest request, std::int32_t* rows) {
    for_each_hypothesis(problem, [&](std::int64_t hypothesis, int lane) {
        const Reference reference(problem, hypothesis, lane);
        std::int32_t* row = rows + hypothesis * (std::int64_t{problem.reference_length} + 1);
        const std::int64_t* tokens = problem.hypothesis(hypothesis);
        const std::int32_t length = cut_length(problem, tokens, problem.stated_length(hypothesis), lane);
        const std::int64_t first = hypothesis * problem.length;
        reference.start(row);
        std::int32_t before = reference.length;
        for (std::int32_t t = 0; t < length; ++t) {
            const std::int32_t distance = reference.advance(row, tokens[t]);
            if (lane == 0) request.write(first + t, distance, before);
            before = distance;
        }
        for (std::int32_t t = length + lane; t < problem.length; t += 32) request.write(first + t, 0, 0);
    });
}

__global__ void describe_states(EditDistanceProblem problem, CompletionRequest request, std::int32_t* rows,
                                std::int32_t* states) {
    const std::int64_t words = state_words(problem), entries = std::int64_t{problem.reference_length} + 1;
    for_each_hypothesis(problem, [&](std::int64_t hypothesis, int lane) {
        const Reference reference(problem, hypothesis, lane);
        std::int32_t *row = rows + 2 * hypothesis * entries, *owed = row + entries;
        const std::int64_t* tokens = problem.hypothesis(hypothesis);
        const std::int32_t stated = problem.stated_length(hypothesis);
        const std::int32_t length = cut_length(problem, tokens, stated, lane);
        std::int32_t* first = states + hypothesis * problem.length * words;
        reference.count_owed(owed, request);
        reference.start(row);
        const std::int32_t real = min(stated, length + 1);  // the state in which the end itself is chosen is one, too
        for (std::int32_t t = 0; t < real; ++t) {
            reference.describe(first + t * words, words, row, owed);
            if (t < length) reference.advance(row, tokens[t]);
        }
        for (std::int32_t t = real + lane; t < problem.length; t += 32) first[t * words + kGap] = -1;
    });
}

template <class T>
__global__ void write_values(EditDistanceProblem problem, CompletionRequest request, const std::int32_t* states) {
    using A = Accumulator<T>;
    const std::int64_t count = problem.hypothesis_count() * problem.length;
    const int length = static_cast<int>(request.vocabulary);
    const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    for (std::int64_t row = first_row(); row < request.row_count; row += row_step()) {
        const std::int64_t index = request.rows ? request.rows[row] : row;
        const bool inside = index >= 0 && index < count;
        const std::int32_t* state = states + (inside ? index : 0) * state_words(problem);
        const std::int32_t gap = inside ? state[kGap] : -1;
        T* out = static_cast<T*>(request.out) + row * request.vocabulary;
        const int lead = store_lead(out);
        const RowWriter<T> writer(out, length, lead);
        const T fill = from_accumulator<T>(static_cast<A>(gap < 0 ? 0 : state[kFill]));
        T lanes[kLanes<T>];
        for (T& element : lanes) element = fill;
        for (int j = first; static_cast<std::int64_t>(j) * kLanes<T> < std::int64_t{length} + lead; j += step)
            writer.write(j, lanes);
        if (blockDim.y > 1)
            __syncwarp();
        else
            __syncthreads();
        if (gap < 0) continue;
        const std::int64_t* tokens = problem.reference(index / problem.length);
        const T optimal = from_accumulator<T>(static_cast<A>(gap));
        for (std::int32_t j = first; j < problem.reference_length; j += step)
            if (continues_optimally(state, j)) out[tokens[j]] = optimal;
        for (std::int32_t i = first; i < request.special_count; i += step)
            if (request.specials[i] != request.eos) out[request.specials[i]] = from_accumulator<T>(-infinity<A>());
        if (first == 0) out[request.eos] = from_accumulator<T>(A(0));
    }
}

}  // namespace

std::int64_t edit_workspace(const EditDistanceProblem& problem) {
    return 4 * problem.hypothesis_count() * (std::int64_t{problem.reference_length} + 1);
}

void edit_distances(const EditDistanceProblem& problem, const EditDistanceRequest& request, void* workspace, int device,
                    void* stream) {
    if (problem.hypothesis_count() == 0) return;
    DeviceGuard guard(device);
    const unsigned blocks = blocks_for(problem.hypothesis_count(), kWalkThreads / kWarpSize);
    SB_LAUNCH(measure_prefixes, blocks, kWalkThreads, 0, stream, problem, request, static_cast<std::int32_t*>(workspace));
    check_launch("measure_prefixes");
}

std::int64_t completion_workspace(const EditDistanceProblem& problem) {
    return 2 * edit_workspace(problem) + 4 * problem.hypothesis_count() * problem.length * state_words(problem);
}

void completion_values(const EditDistanceProblem& problem, const CompletionRequest& request, void* workspace, int device,
                       void* stream) {
    check_row_sizes(request.row_count, request.vocabulary);
    if (request.row_count == 0) return;
    DeviceGuard guard(device);
    auto* rows = static_cast<std::int32_t*>(workspace);
    std::int32_t* states = rows + edit_workspace(problem) / 2;
    const unsigned blocks = blocks_for(problem.hypothesis_count(), kWalkThreads / kWarpSize);
    if (blocks > 0) {
        SB_LAUNCH(describe_states, blocks, kWalkThreads, 0, stream, problem, request, rows, states);
        check_launch("describe_states");
    }
    dispatch_dtype(request.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const RowLaunch shape = row_launch(request.row_count, request.vocabulary, kLanes<T>, kWriteThreads);
        const auto kernel = write_values<T>;
        SB_LAUNCH(kernel, shape.grid, shape.block, 0, stream, problem, request, states);
        check_launch("write_values");
    });
}

}  // namespace softbellman::cuda
