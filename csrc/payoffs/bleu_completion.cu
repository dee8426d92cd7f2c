// Completion values of BLEU on the device; the index, the candidates and the formulas are the CPU's.
//
// Two launches. build_suffixes: a block for each source builds the index of its references, threads over places.
// write_states: a warp for each state.
//   1. It counts the prefix, 32 positions at a time, as prefix BLEU does.
//   2. Each lane takes one of the references' different tokens as the next one, 32 of them at a time, and finds the n-grams
//      that end with it.
//   3. All lanes take a reference from its end on: lane n adds the (n + 1)-gram that begins here, a ballot gives the matches
//      of the suffix, and each lane scores its candidate. The counters are then taken back.
// A lane reads the counters and one or two slots of the index for a candidate. Nothing is summed across lanes but integers,
// so results do not depend on the batch. Workspace: an index for each source; counters and best scores for each warp.
#include "payoffs/bleu_completion.h"

#include <algorithm>

#include "core/launch.cuh"
#include "payoffs/bleu_walk.cuh"
#include "payoffs/token_rows.cuh"

namespace softbellman::cuda {
namespace {

constexpr unsigned kBuildThreads = 128, kValueThreads = 128, kWarps = kValueThreads / kWarpSize;
constexpr std::int64_t kMostWarps = 1 << 13;  // that have memory of their own, about what a large device holds at a time

__global__ void build_suffixes(SuffixValues values) {
    const SuffixIndexLayout layout(values);
    const BlockLanes block{static_cast<std::int32_t>(threadIdx.x), static_cast<std::int32_t>(blockDim.x)};
    for (std::int64_t b = blockIdx.x; b < values.sources(); b += gridDim.x) {
        char* memory = static_cast<char*>(values.workspace.memory) + b * layout.bytes();
        build_suffix_index(layout.place(memory, values.references.row(b, 0)), values, b, block);
    }
}

// What a warp needs besides: best scores by token node, counters.
struct WarpMemory {
    double* best;
    std::int32_t* counters;

    SB_HD static std::int64_t bytes(const SuffixIndexLayout& layout) {
        return (8 * layout.token_slots() + 4 * layout.index.node_count + 63) / 64 * 64;
    }
    __device__ WarpMemory(char* memory, const SuffixIndexLayout& layout)
        : best(reinterpret_cast<double*>(memory)), counters(reinterpret_cast<std::int32_t*>(best + layout.token_slots())) {}
};

// One state: a prefix of `length` tokens, whose n-grams the counters hold.
struct State {
    const SuffixValues& values;
    const SuffixIndex& index;
    const WarpMemory& memory;
    std::int32_t length;
    int lane;
    std::int32_t matches[kLargestOrder], nodes[kLargestOrder];  // of the prefix; nodes[n]: its n + 1 last tokens

    __device__ double brevity(std::int32_t tokens) const {
        return bleu_brevity_penalty(tokens, bleu_closest_length(index.lengths, values.reference_count(), tokens), values);
    }

    // Counts the prefix; everything is the same in all lanes afterwards.
    __device__ void begin(const std::int64_t* tokens) {
        const int max_order = values.max_order;
        std::int32_t own[kLargestOrder];
        for (int n = 0; n < max_order; ++n) own[n] = 0;
        walk(index, memory.counters, values, tokens, length, lane,
             [&](bool, std::int32_t prefix, const std::int64_t* found) {
                 if (prefix != length) return;
                 for (int n = 0; n < max_order; ++n) own[n] = static_cast<std::int32_t>(found[n]);
             });
        for (int n = 0; n < max_order; ++n) {
            matches[n] = __shfl_sync(kFullWarp, own[n], (length + 31) % 32);
            std::int32_t node = kNoNode;
            for (std::int32_t t = length - 1 - n; t >= 0 && t < length; ++t) {
                const std::int32_t token = values.is_unmatched(tokens[t]) ? kNoNode : index.find_token(tokens[t]);
                if (t == length - 1 - n)
                    node = token;
                else
                    node = token == kNoNode ? kNoNode : index.find_child(node, token);
                if (node == kNoNode) break;
            }
            nodes[n] = node;
        }
    }

    // The best score of `token` (a node, or none) with a suffix of reference r, and in `elsewhere` of a token of no
    // reference.
    __device__ double complete(std::int32_t r, std::int32_t token, const std::int32_t* ending, double& elsewhere) const {
        const int max_order = values.max_order;
        const std::int32_t whole = index.lengths[r];
        std::int64_t counted[kLargestOrder];
        for (int n = 0; n < max_order; ++n) counted[n] = matches[n];
        double best = 0.0;  // no score is below
        for (std::int32_t j = whole; j >= 0; --j) {
            if (j < whole) {
                const std::int32_t node = lane < max_order ? index.start(r, lane)[j] : kNoNode;
                const bool match = node != kNoNode && memory.counters[node]++ < index.clip[node];
                const unsigned matching = __ballot_sync(kFullWarp, match);
                for (int n = 0; n < max_order; ++n) counted[n] += matching >> n & 1;
            }
            __syncwarp();  // the counters are written
            const std::int32_t all = length + 1 + whole - j;
            const double penalty = brevity(all);
            const SuffixScores alone = suffix_scores(counted, all, penalty, values);
            elsewhere = fmax(elsewhere, alone.missed);
            if (token != kNoNode)
                best = fmax(best, candidate_score(ending, index, memory.counters, index.start(r, 0) + j, whole - j, counted,
                                                  alone, all, penalty, values));
            __syncwarp();  // the counters are read
        }
        for (int n = 0; n < max_order; ++n) {
            for (std::int32_t j = lane; j < whole; j += 32) {
                const std::int32_t node = index.start(r, n)[j];
                if (node != kNoNode) atomicAdd(memory.counters + node, -1);
            }
        }
        __syncwarp();
        return best;
    }
};

template <class Out>
__device__ void write_state(const SuffixValues& values, const SuffixIndex& index, const WarpMemory& memory,
                            std::int64_t number, std::int32_t length, int lane) {
    const std::int64_t hypothesis = number / values.length(), b = hypothesis / values.samples();
    Out* out = static_cast<Out*>(values.out) + number * (1 + values.places());
    State state{values, index, memory, length, lane, {}, {}};
    state.begin(values.hypotheses.row(b, hypothesis % values.samples()));

    double elsewhere = 0.0;
    for (std::int32_t first = 0; first == 0 || first < *index.token_count; first += 32) {
        const std::int32_t u = first + lane;
        const std::int32_t token = u < *index.token_count ? index.tokens[u] : kNoNode;
        std::int32_t ending[kLargestOrder];
        nodes_ending_with(token, index, state.nodes, values.max_order, ending);
        double best = 0.0;
        for (std::int32_t r = 0; r < values.reference_count(); ++r)
            best = fmax(best, state.complete(r, token, ending, elsewhere));
        if (token != kNoNode) memory.best[token] = best;
    }
    __syncwarp();  // the best scores are written

    std::int64_t matches[kLargestOrder];
    for (int n = 0; n < values.max_order; ++n) matches[n] = state.matches[n];
    const double now =
        length == 0 ? 0.0 : bleu_prefix_score(matches, length, values.max_order, state.brevity(length), values);
    const double scale = values.scaled ? mean_length(index.lengths, values.reference_count()) : 1.0;
    const Out other = static_cast<Out>(completion_value(scale, elsewhere, now));
    if (lane == 0) out[0] = other;
    for (std::int32_t r = 0; r < values.reference_count(); ++r) {
        const std::int64_t* tokens = values.references.row(b, r);
        for (std::int32_t j = lane; j < values.reference_length(); j += 32) {
            const bool matching = j < index.lengths[r] && !values.is_unmatched(tokens[j]);
            out[1 + static_cast<std::int64_t>(r) * values.reference_length() + j] =
                matching ? static_cast<Out>(completion_value(scale, memory.best[index.find_token(tokens[j])], now)) : other;
        }
    }
    __syncwarp();  // the best scores are read
}

__global__ void write_states(SuffixValues values) {
    const SuffixIndexLayout layout(values);
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
    char* workspace = static_cast<char*>(values.workspace.memory);
    const WarpMemory memory(workspace + values.sources() * layout.bytes() + warp * WarpMemory::bytes(layout), layout);
    for (std::int64_t number = warp; number < values.states(); number += static_cast<std::int64_t>(gridDim.x) * kWarps) {
        const std::int64_t hypothesis = number / values.length();
        const std::int64_t b = hypothesis / values.samples(), k = hypothesis % values.samples();
        const auto t = static_cast<std::int32_t>(number % values.length());
        // The state in which the end itself is chosen is one, too.
        if (t < values.hypotheses.stated_length(b, k) && t <= cut_length(values, values.hypotheses, b, k, lane)) {
            const SuffixIndex index = layout.place(workspace + b * layout.bytes(), values.references.row(b, 0));
            if (values.float64)
                write_state<double>(values, index, memory, number, t, lane);
            else
                write_state<float>(values, index, memory, number, t, lane);
            continue;
        }
        const std::int64_t width = 1 + values.places();
        for (std::int64_t i = lane; i < width; i += 32) {
            if (values.float64)
                static_cast<double*>(values.out)[number * width + i] = 0.0;
            else
                static_cast<float*>(values.out)[number * width + i] = 0.0f;
        }
    }
}

std::int64_t warps_for(std::int64_t states) {
    return std::min((states + kWarps - 1) / kWarps * kWarps, kMostWarps);
}

}  // namespace

std::int64_t suffix_workspace(const NgramBatch& batch) {
    const SuffixIndexLayout layout(batch);
    return batch.sources() * layout.bytes() +
           warps_for(batch.hypotheses.count() * batch.length()) * WarpMemory::bytes(layout);
}

void suffix_values(const SuffixValues& values, const Launch& launch) {
    if (values.states() == 0) return;
    values.workspace.check(suffix_workspace(values));
    DeviceGuard guard(launch.device);
    SB_LAUNCH(build_suffixes, blocks_for(values.sources(), 1), kBuildThreads, 0, launch.stream, values);
    check_launch("build_suffixes");
    const unsigned blocks = blocks_for(warps_for(values.states()), kWarps);
    SB_LAUNCH(write_states, blocks, kValueThreads, 0, launch.stream, values);
    check_launch("write_states");
}

}  // namespace softbellman::cuda
