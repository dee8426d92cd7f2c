#include "payoffs/document_counter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "payoffs/token_rows.h"

namespace softbellman::cpu {
namespace {

std::size_t entry_hash(std::int32_t parent, std::int64_t token) {
    std::uint64_t key = static_cast<std::uint64_t>(token) * 0x9E3779B97F4A7C15ull;
    key = (key ^ (key >> 29)) + static_cast<std::uint64_t>(parent + 1) * 0xBF58476D1CE4E5B9ull;
    return static_cast<std::size_t>((key ^ (key >> 32)) * 0x94D049BB133111EBull >> 20);
}

void check_order(const char* name, int order, int most) {
    if (order >= 1 && order <= most) return;
    throw std::invalid_argument(std::string(name) + " must be from 1 to " + std::to_string(most) + ", got " +
                                std::to_string(order) + ".");
}

}  // namespace

DocumentCounter::DocumentCounter(int max_order) : max_order_(max_order), slots_(1 << 12, 0) {
    check_order("max_order", max_order, kLargestOrder);
}

void DocumentCounter::grow() {
    std::vector<std::int32_t> slots(2 * slots_.size(), 0);
    const std::size_t mask = slots.size() - 1;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        std::size_t slot = entry_hash(entries_[i].parent, entries_[i].token) & mask;
        while (slots[slot] != 0) slot = (slot + 1) & mask;
        slots[slot] = static_cast<std::int32_t>(i + 1);
    }
    slots_.swap(slots);
}

std::int32_t DocumentCounter::child(std::int32_t parent, std::int64_t token) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = entry_hash(parent, token) & mask;
    for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
        const Entry& entry = entries_[slots_[slot] - 1];
        if (entry.parent == parent && entry.token == token) return slots_[slot] - 1;
    }
    if (entries_.size() >= (std::size_t(1) << 29)) throw std::length_error("more than 2**29 different n-grams");
    entries_.push_back({token, -1, parent, parent == kNoNode ? 1 : entries_[parent].order + 1, 0});
    slots_[slot] = static_cast<std::int32_t>(entries_.size());
    const auto added = static_cast<std::int32_t>(entries_.size() - 1);
    if (2 * entries_.size() > slots_.size()) grow();
    return added;
}

void DocumentCounter::add(const Documents& batch) {
    for (std::int64_t b = 0; b < batch.references.sources; ++b, ++documents_) {
        for (std::int32_t r = 0; r < batch.references.rows; ++r) {
            const std::int64_t* tokens = batch.references.row(b, r);
            const std::int32_t length = cut_length(batch, batch.references, b, r);
            for (std::int32_t start = 0; start < length; ++start) {
                std::int32_t node = kNoNode;
                for (std::int32_t i = start; i < length && i - start < max_order_; ++i) {
                    if (batch.is_unmatched(tokens[i])) break;
                    node = child(node, tokens[i]);
                    Entry& entry = entries_[node];
                    entry.frequency += entry.document != documents_;
                    entry.document = documents_;
                }
            }
        }
    }
}

std::int64_t DocumentCounter::size(int order) const {
    check_order("order", order, max_order_);
    return std::count_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.order == order; });
}

void DocumentCounter::write(int order, std::int64_t* ngrams, std::int64_t* frequencies) const {
    std::vector<std::int64_t> rows;
    std::vector<std::int32_t> nodes;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        if (entries_[i].order != order) continue;
        nodes.push_back(static_cast<std::int32_t>(i));
        rows.resize(rows.size() + order);
        std::int32_t node = nodes.back();
        for (auto cell = rows.end(); node != kNoNode; node = entries_[node].parent) *--cell = entries_[node].token;
    }
    std::vector<std::int64_t> sorted(nodes.size());
    std::iota(sorted.begin(), sorted.end(), 0);
    const auto row = [&](std::int64_t i) { return rows.begin() + i * order; };
    std::sort(sorted.begin(), sorted.end(), [&](std::int64_t i, std::int64_t j) {
        return std::lexicographical_compare(row(i), row(i) + order, row(j), row(j) + order);
    });
    for (const std::int64_t i : sorted) {
        ngrams = std::copy(row(i), row(i) + order, ngrams);
        *frequencies++ = entries_[nodes[i]].frequency;
    }
}

int document_table_bits(std::int64_t ngrams) {
    if (ngrams < 0 || ngrams > kMostReferenceTokens)
        throw std::invalid_argument("a table must have from 0 to 2**29 n-grams, got " + std::to_string(ngrams) + ".");
    return NgramIndexLayout::bits_for(2 * ngrams);
}

std::int64_t fill_document_table(const CountedNgrams& ngrams) {
    auto* token_slots = const_cast<DocumentSlot*>(ngrams.token_slots);
    auto* ngram_slots = const_cast<DocumentSlot*>(ngrams.ngram_slots);
    const auto insert = [](DocumentSlot* slots, int bits, DocumentSlot added) {
        const std::uint32_t mask = (std::uint32_t(1) << bits) - 1, first = NgramIndex::hash(added.key, 64 - bits);
        std::uint32_t slot = first;
        while (slots[slot].weight >= 0.0) {
            slot = (slot + 1) & mask;
            if (slot == first) throw std::invalid_argument("the slots of document frequencies have no free slot.");
        }
        slots[slot] = added;
    };
    if (ngrams.order == 1) {
        std::fill_n(token_slots, ngrams.token_mask() + 1, DocumentSlot{0, -1.0});
        std::fill_n(ngram_slots, ngrams.ngram_mask() + 1, DocumentSlot{0, -1.0});
    }
    const int last_token = ngrams.order - 1;
    for (std::int64_t i = 0; i < ngrams.size; ++i) {
        const std::int64_t* row = ngrams.ngrams + i * ngrams.order;
        const std::int64_t frequency = ngrams.counts[i];
        if (frequency < 1 || frequency > ngrams.documents) return i;
        const double weight = std::max(0.0, ngrams.unseen - std::log(static_cast<double>(frequency)));
        const std::int32_t last = ngrams.find_token(row[last_token]);
        if (ngrams.order == 1) {
            if (last != kNoNode) return i;
            insert(token_slots, ngrams.token_bits, {static_cast<unsigned long long>(row[0]), weight});
            continue;
        }
        std::int32_t parent = ngrams.find_token(row[0]);
        for (int j = 1; j < last_token; ++j) parent = ngrams.find_child(parent, ngrams.find_token(row[j]));
        if (parent == kNoNode || last == kNoNode || ngrams.find_child(parent, last) != kNoNode) return i;
        insert(ngram_slots, ngrams.ngram_bits, {NgramIndex::pair_key(parent, last), weight});
    }
    return -1;
}

}  // namespace softbellman::cpu
