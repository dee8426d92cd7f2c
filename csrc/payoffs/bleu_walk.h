// What BLEU's kernels on the CPU share: the builder of an index, the matches of a growing prefix, brevity penalties.
#pragma once

#include <algorithm>
#include <cstdint>

#include "payoffs/bleu.h"
#include "payoffs/ngram_index.h"

namespace softbellman::cpu {

struct OneLane {
    static constexpr int lane = 0, size = 1;
    void sync() const {}
    static unsigned long long claim(unsigned long long* slot, unsigned long long value) {
        const unsigned long long held = *slot;
        if (held == 0) *slot = value;
        return held;
    }
    static std::int32_t add(std::int32_t* value, std::int32_t by) {
        const std::int32_t old = *value;
        *value = old + by;
        return old;
    }
    static void maximum(std::int32_t* value, std::int32_t other) { *value = std::max(*value, other); }
    static void minimum(std::int32_t* value, std::int32_t other) { *value = std::min(*value, other); }
};

// The clipped matches of a prefix, token by token; the index's counters hold its n-grams. kOrder is the order, or 0:
// batch.max_order.
template <int kOrder>
struct PrefixMatches {
    std::int64_t matches[kLargestOrder] = {};
    std::int32_t nodes[kLargestOrder];  // nodes[n]: the n+1 tokens that end here

    PrefixMatches() { std::fill(nodes, nodes + kLargestOrder, kNoNode); }
    SB_INLINE void take(const NgramIndex& index, const NgramBatch& batch, std::int64_t token) {
        const int max_order = kOrder ? kOrder : batch.max_order;
        const std::int32_t node = batch.is_unmatched(token) ? kNoNode : index.find_token(token);
        for (int n = max_order - 1; n > 0; --n)
            nodes[n] = node == kNoNode || nodes[n - 1] == kNoNode ? kNoNode : index.find_child(nodes[n - 1], node);
        nodes[0] = node;
        for (int n = 0; n < max_order && nodes[n] != kNoNode; ++n)  // no longer n-gram without the shorter one
            matches[n] += index.count[nodes[n]]++ < index.clip[nodes[n]];
    }
};

// The brevity penalties of one source by prefix length, filled as far as they are asked for: K hypotheses share them.
class BrevityTable {
 public:
    BrevityTable(double* values, const NgramIndex& index, std::int32_t references, const BleuScoring& scoring)
        : values_(values), lengths_(index.lengths), scoring_(scoring), references_(references) {}
    double operator()(std::int32_t length) {
        while (filled_ < length) {
            ++filled_;
            const std::int32_t closest = bleu_closest_length(lengths_, references_, filled_);
            values_[filled_ - 1] = bleu_brevity_penalty(filled_, closest, scoring_);
        }
        return values_[length - 1];
    }

 private:
    double* values_;
    const std::int32_t* lengths_;
    const BleuScoring& scoring_;
    std::int32_t references_, filled_ = 0;
};

}  // namespace softbellman::cpu
