// N-gram document frequencies of a reference corpus, counted exactly; and the table of their weights that cider.h looks up.
#pragma once

#include <cstdint>
#include <vector>

#include "payoffs/cider.h"

namespace softbellman {

// References of which each source is a document.
struct Documents : TokenIds {
    TokenMatrix references;  // [B, R, L]

    template <class Fields>
    void describe(Fields& fields) {
        fields.tokens("references", references);
        fields.lengths("reference_lengths", references);
        TokenIds::describe(fields);
        fields.rule(references.rows >= 1 || references.sources == 0, "references must hold at least one per source");
        fields.rule(references.rows <= kMostReferenceTokens, "references must be at most 2**29 per source");
    }
};

// The n-grams of one order with their document frequencies, and the slots that take them.
struct CountedNgrams : DocumentTable {
    std::int64_t documents = 1;
    int order = 1;
    const std::int64_t *ngrams = nullptr, *counts = nullptr;  // [size, order] and [size]
    std::int64_t size = 0;

    template <class Fields>
    void describe(Fields& fields) {
        DocumentTable::describe(fields);
        fields.integer("documents", documents, 1, std::int64_t(1) << 53);
        fields.integer("order", order, 1, kLargestOrder);
        fields.counted_array("counts", counts, size);
        fields.array("ngrams", ngrams, size * order);
        fields.rule(size <= std::int64_t(1) << ((order == 1 ? token_bits : ngram_bits) - 1), "the slots must be half free");
    }
};

namespace cpu {

// A tree of n-grams that grows with the corpus. A document is the set of references of one source.
class DocumentCounter {
 public:
    explicit DocumentCounter(int max_order);
    void add(const Documents& documents);
    std::int64_t documents() const { return documents_; }
    int max_order() const { return max_order_; }
    std::int64_t size(int order) const;
    // The n-grams of one order [size, order], in ascending order of their tokens, and in how many documents each occurs.
    void write(int order, std::int64_t* ngrams, std::int64_t* frequencies) const;

 private:
    struct Entry {
        std::int64_t token, document;  // the last document that held it
        std::int32_t parent, order, frequency;
    };
    std::int32_t child(std::int32_t parent, std::int64_t token);
    void grow();

    int max_order_;
    std::int64_t documents_ = 0;
    std::vector<Entry> entries_;
    std::vector<std::int32_t> slots_;  // 1 + entry, 0 = free
};

// Where `counter` writes what it counted of one order.
struct WrittenNgrams {
    const DocumentCounter* counter = nullptr;
    int order = 1;
    std::int64_t *ngrams = nullptr, *counts = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.integer("order", order, 1, counter->max_order());
        const std::int64_t size = counter->size(order);
        fields.array("ngrams", ngrams, size * order);
        fields.array("counts", counts, size);
    }
};

// Binary logarithm of the slots for so many n-grams, at most 2^29: at most half of them are filled.
int document_table_bits(std::int64_t ngrams);

// Puts them into the slots, those of order 1 first, which empty both tables. Returns -1, or the row of an n-gram that no
// corpus can have: repeated, without its shorter n-gram, or with a frequency outside [1, documents].
std::int64_t fill_document_table(const CountedNgrams& ngrams);

}  // namespace cpu
}  // namespace softbellman
