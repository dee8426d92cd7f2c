// The n-grams of one source's references as a tree in two open-addressing tables, built once and shared by its hypotheses.
//
// A node is an n-gram: a slot of the token table (n = 1), or of the n-gram table, whose key is the pair (node of the
// (n-1)-gram before, node of the last token). Keys are compared whole, so two different n-grams never share a node,
// whatever the hash does. `clip` holds, for each node, the largest count within one reference.
//
// A sequence is then counted with one step down the tree for each order and token:
//     node_n(t) = child(node_{n-1}(t-1), node_1(t)),
// and the occurrence of an n-gram at t matches when fewer than `clip` occurrences of it came before.
//
// Built by a group of lanes: one on the CPU, a block on the GPU. Nodes are slots, so their numbers depend on the order of
// insertion; counts do not.
#pragma once
#include <cstdint>

#include "payoffs/token_batch.h"

namespace softbellman {

constexpr std::int32_t kNoNode = -1;

struct NgramIndex {
    std::int32_t token_mask, ngram_mask;   // capacities (powers of two) minus one
    int token_shift, ngram_shift;          // 64 - log2(capacity)
    std::int32_t node_count;               // both capacities together
    unsigned long long* first;             // token table: 1 + offset of the token's first occurrence, 0 = free
    unsigned long long* keys;              // n-gram table: (1 + parent) << 32 | (1 + token node), 0 = free
    std::int32_t *clip, *count;            // [node_count]; count is zero outside build()
    std::int32_t* nodes;                   // [max_order, L], the reference being inserted
    std::int32_t* lengths;                 // [R], after the cut at eos
    const std::int64_t* reference_tokens;  // of this source

    SB_HD static std::uint32_t hash(unsigned long long key, int shift) {
        return static_cast<std::uint32_t>((key * 0x9E3779B97F4A7C15ull) >> shift);
    }
    SB_HD static unsigned long long pair_key(std::int32_t parent, std::int32_t token) {
        return static_cast<unsigned long long>(parent + 1) << 32 | static_cast<unsigned long long>(token + 1);
    }

    SB_HD std::int32_t find_token(std::int64_t token) const {
        for (std::uint32_t slot = hash(static_cast<unsigned long long>(token), token_shift);;
             slot = (slot + 1) & token_mask) {
            const unsigned long long occurrence = first[slot];
            if (occurrence == 0) return kNoNode;
            if (reference_tokens[occurrence - 1] == token) return static_cast<std::int32_t>(slot);
        }
    }
    SB_HD std::int32_t find_child(std::int32_t parent, std::int32_t token) const {
        const unsigned long long key = pair_key(parent, token);
        for (std::uint32_t slot = hash(key, ngram_shift);; slot = (slot + 1) & ngram_mask) {
            const unsigned long long held = keys[slot];
            if (held == key) return token_mask + 1 + static_cast<std::int32_t>(slot);
            if (held == 0) return kNoNode;
        }
    }
    template <class Group>
    SB_HD std::int32_t insert_token(std::int64_t token, std::int64_t offset, const Group& group) const {
        for (std::uint32_t slot = hash(static_cast<unsigned long long>(token), token_shift);;
             slot = (slot + 1) & token_mask) {
            const unsigned long long occurrence = group.claim(first + slot, static_cast<unsigned long long>(offset + 1));
            if (occurrence == 0 || reference_tokens[occurrence - 1] == token) return static_cast<std::int32_t>(slot);
        }
    }
    template <class Group>
    SB_HD std::int32_t insert_child(std::int32_t parent, std::int32_t token, const Group& group) const {
        const unsigned long long key = pair_key(parent, token);
        for (std::uint32_t slot = hash(key, ngram_shift);; slot = (slot + 1) & ngram_mask) {
            const unsigned long long held = group.claim(keys + slot, key);
            if (held == 0 || held == key) return token_mask + 1 + static_cast<std::int32_t>(slot);
        }
    }
};

// Where the parts of one index lie in its piece of the workspace. At most half of each table is ever full.
struct NgramIndexLayout {
    int token_bits, ngram_bits;
    std::int64_t node_count, nodes, references;

    SB_HD explicit NgramIndexLayout(const NgramBatch& batch) {
        const std::int64_t tokens = static_cast<std::int64_t>(batch.reference_count()) * batch.reference_length();
        token_bits = bits_for(2 * tokens);
        ngram_bits = bits_for(2 * tokens * (batch.max_order - 1));
        node_count = (std::int64_t(1) << token_bits) + (std::int64_t(1) << ngram_bits);
        nodes = static_cast<std::int64_t>(batch.max_order) * batch.reference_length();
        references = batch.reference_count();
    }
    SB_HD std::int64_t bytes() const { return (8 * node_count + 4 * (2 * node_count + nodes + references) + 63) / 64 * 64; }

    SB_HD NgramIndex place(void* memory, const std::int64_t* reference_tokens) const {
        NgramIndex index;
        index.token_mask = (std::int32_t(1) << token_bits) - 1;
        index.ngram_mask = (std::int32_t(1) << ngram_bits) - 1;
        index.token_shift = 64 - token_bits;
        index.ngram_shift = 64 - ngram_bits;
        index.node_count = static_cast<std::int32_t>(node_count);
        index.first = static_cast<unsigned long long*>(memory);
        index.keys = index.first + (std::int64_t(1) << token_bits);
        index.clip = reinterpret_cast<std::int32_t*>(index.first + node_count);
        index.count = index.clip + node_count;
        index.nodes = index.count + node_count;
        index.lengths = index.nodes + nodes;
        index.reference_tokens = reference_tokens;
        return index;
    }
    SB_HD static int bits_for(std::int64_t capacity) {
        int bits = 2;
        while ((std::int64_t(1) << bits) < capacity) ++bits;
        return bits;
    }
};

// Fills the index of source b. Group: lane, size, sync(), claim(), add(), maximum(), minimum().
#ifdef __CUDACC__
#pragma nv_exec_check_disable
#endif
template <class Group>
SB_HD void build_ngram_index(const NgramIndex& index, const NgramBatch& batch, std::int64_t b, const Group& group) {
    for (std::int32_t i = group.lane; i < index.node_count; i += group.size) {
        index.first[i] = 0;  // keys follow first, so this clears both tables
        index.clip[i] = 0;
        index.count[i] = 0;
    }
    for (std::int32_t r = group.lane; r < batch.reference_count(); r += group.size)
        index.lengths[r] = batch.references.stated_length(b, r);
    group.sync();

    const std::int32_t row = batch.reference_length();
    for (std::int32_t r = 0; r < batch.reference_count(); ++r) {
        const std::int64_t start = r * batch.references.row_stride;
        const std::int64_t* tokens = index.reference_tokens + start;
        if (batch.has_eos) {
            const std::int32_t stated = batch.references.stated_length(b, r);
            for (std::int32_t i = group.lane; i < stated; i += group.size) {
                if (tokens[i] != batch.eos) continue;
                group.minimum(index.lengths + r, i);
                break;  // the first of this lane's positions is its smallest
            }
            group.sync();
        }
        const std::int32_t length = index.lengths[r];
        for (int n = 0; n < batch.max_order; ++n) {
            std::int32_t* level = index.nodes + static_cast<std::int64_t>(n) * row;
            for (std::int32_t i = group.lane; i < length; i += group.size) {
                std::int32_t node = kNoNode;
                if (n == 0) {
                    if (!batch.is_unmatched(tokens[i])) node = index.insert_token(tokens[i], start + i, group);
                } else if (i >= n) {
                    const std::int32_t parent = (level - row)[i - 1], token = index.nodes[i];
                    if (parent != kNoNode && token != kNoNode) node = index.insert_child(parent, token, group);
                }
                level[i] = node;
                if (node != kNoNode) group.maximum(index.clip + node, group.add(index.count + node, 1) + 1);
            }
            group.sync();
        }
        for (int n = 0; n < batch.max_order; ++n) {
            for (std::int32_t i = group.lane; i < length; i += group.size) {
                const std::int32_t node = index.nodes[static_cast<std::int64_t>(n) * row + i];
                if (node != kNoNode) index.count[node] = 0;
            }
        }
        group.sync();
    }
}

}  // namespace softbellman
