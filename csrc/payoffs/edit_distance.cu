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
#include "payoffs/token_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kWalkThreads = 128, kWriteThreads = 256;
constexpr std::int32_t kFar = 0x7fffffff;

struct Reference {
    const std::int64_t* tokens;
    std::int32_t length;
    int lane;

    __device__ Reference(const TokenBatch& batch, std::int64_t b, int lane_)
        : tokens(batch.references.row(b, 0)), length(cut_length(batch, batch.references, b, 0, lane_)), lane(lane_) {}

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
    __device__ void count_owed(std::int32_t* owed, const CompletionValues& values) const {
        std::int32_t behind = 0;
        for (std::int32_t start = length / 32 * 32; start >= 0; start -= 32) {
            const std::int32_t j = start + lane;
            const bool unproduced = j < length && !values.produced(tokens[j]);
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

__global__ void measure_prefixes(EditDistances distances) {
    auto* rows = static_cast<std::int32_t*>(distances.workspace.memory);
    for_each_hypothesis(distances, [&](std::int64_t hypothesis, int lane) {
        const std::int64_t b = hypothesis / distances.samples(), k = hypothesis % distances.samples();
        const Reference reference(distances, b, lane);
        std::int32_t* row = rows + hypothesis * (std::int64_t{distances.reference_length()} + 1);
        const std::int64_t* tokens = distances.hypotheses.row(b, k);
        const std::int32_t length = cut_length(distances, distances.hypotheses, b, k, lane);
        const std::int64_t first = hypothesis * distances.length();
        reference.start(row);
        std::int32_t before = reference.length;
        for (std::int32_t t = 0; t < length; ++t) {
            const std::int32_t distance = reference.advance(row, tokens[t]);
            if (lane == 0) distances.write(first + t, distance, before);
            before = distance;
        }
        for (std::int32_t t = length + lane; t < distances.length(); t += 32) distances.write(first + t, 0, 0);
    });
}

// The workspace: two rows for each hypothesis, then the states.
__global__ void describe_states(CompletionValues values, std::int32_t* states) {
    const std::int64_t words = state_words(values), entries = std::int64_t{values.reference_length()} + 1;
    auto* rows = static_cast<std::int32_t*>(values.workspace.memory);
    for_each_hypothesis(values, [&](std::int64_t hypothesis, int lane) {
        const std::int64_t b = hypothesis / values.samples(), k = hypothesis % values.samples();
        const Reference reference(values, b, lane);
        std::int32_t *row = rows + 2 * hypothesis * entries, *owed = row + entries;
        const std::int64_t* tokens = values.hypotheses.row(b, k);
        const std::int32_t stated = values.hypotheses.stated_length(b, k);
        const std::int32_t length = cut_length(values, values.hypotheses, b, k, lane);
        std::int32_t* first = states + hypothesis * values.length() * words;
        reference.count_owed(owed, values);
        reference.start(row);
        const std::int32_t real = min(stated, length + 1);  // the state in which the end itself is chosen is one, too
        for (std::int32_t t = 0; t < real; ++t) {
            reference.describe(first + t * words, words, row, owed);
            if (t < length) reference.advance(row, tokens[t]);
        }
        for (std::int32_t t = real + lane; t < values.length(); t += 32) first[t * words + kGap] = -1;
    });
}

template <class T>
__global__ void write_values(CompletionValues values, const std::int32_t* states) {
    using A = Accumulator<T>;
    const std::int64_t count = values.hypotheses.count() * values.length();
    const int length = static_cast<int>(values.vocabulary);
    const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    for (std::int64_t row = first_row(); row < values.row_count; row += row_step()) {
        const std::int64_t index = values.rows ? values.rows[row] : row;
        const bool inside = index >= 0 && index < count;
        const std::int32_t* state = states + (inside ? index : 0) * state_words(values);
        const std::int32_t gap = inside ? state[kGap] : -1;
        T* out = static_cast<T*>(values.out) + row * values.vocabulary;
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
        const std::int64_t* tokens = values.references.row(index / values.length() / values.samples(), 0);
        const T optimal = from_accumulator<T>(static_cast<A>(gap));
        for (std::int32_t j = first; j < values.reference_length(); j += step)
            if (continues_optimally(state, j)) out[tokens[j]] = optimal;
        for (std::int64_t i = first; i < values.special_count; i += step)
            if (values.specials[i] != values.eos) out[values.specials[i]] = from_accumulator<T>(-infinity<A>());
        if (first == 0) out[values.eos] = from_accumulator<T>(A(0));
    }
}

}  // namespace

std::int64_t edit_workspace(const EditBatch& batch) {
    return 4 * batch.hypotheses.count() * (std::int64_t{batch.reference_length()} + 1);
}

void edit_distances(const EditDistances& distances, const Launch& launch) {
    if (distances.hypotheses.count() == 0) return;
    distances.workspace.check(edit_workspace(distances));
    DeviceGuard guard(launch.device);
    const unsigned blocks = blocks_for(distances.hypotheses.count(), kWalkThreads / kWarpSize);
    SB_LAUNCH(measure_prefixes, blocks, kWalkThreads, 0, launch.stream, distances);
    check_launch("measure_prefixes");
}

std::int64_t completion_workspace(const EditBatch& batch) {
    return 2 * edit_workspace(batch) + 4 * batch.hypotheses.count() * batch.length() * state_words(batch);
}

void completion_values(const CompletionValues& values, const Launch& launch) {
    check_row_sizes(values.row_count, values.vocabulary);
    if (values.row_count == 0) return;
    values.workspace.check(completion_workspace(values));
    DeviceGuard guard(launch.device);
    std::int32_t* states = static_cast<std::int32_t*>(values.workspace.memory) + edit_workspace(values) / 2;
    const unsigned blocks = blocks_for(values.hypotheses.count(), kWalkThreads / kWarpSize);
    if (blocks > 0) {
        SB_LAUNCH(describe_states, blocks, kWalkThreads, 0, launch.stream, values, states);
        check_launch("describe_states");
    }
    dispatch_dtype(values.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const RowLaunch shape = row_launch(values.row_count, values.vocabulary, kLanes<T>, kWriteThreads);
        const auto kernel = write_values<T>;
        SB_LAUNCH(kernel, shape.grid, shape.block, 0, launch.stream, values, states);
        check_launch("write_values");
    });
}

}  // namespace softbellman::cuda
