// N-gram document frequencies of a reference corpus, counted exactly; and the table of their weights that cider.h looks up.
#pragma once

#include <cstdint>
#include <vector>

#include "payoffs/cider.h"

namespace softbellman::cpu {

// A tree of n-grams that grows with the corpus. A document is the set of references of one source.
class DocumentCounter {
 public:
    explicit DocumentCounter(int max_order);
    // Adds a document for each source of `problem`, of which only the references are read.
    void add(const BleuProblem& problem);
    std::int64_t documents() const { return documents_; }
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

// Capacities (powers of two) of the two tables for `unigrams` and `longer` n-grams, at most half full.
int document_table_bits(std::int64_t entries);

// Fills the table of cider.h from the n-grams of the orders 1..max_order, ngrams[n] holding sizes[n] rows of n+1 tokens.
// Returns -1, or a row that cannot be one: of order `*bad_order`, repeated, without its shorter n-gram, or with a frequency
// outside [1, documents].
std::int64_t fill_document_table(const std::vector<const std::int64_t*>& ngrams,
                                 const std::vector<const std::int64_t*>& frequencies, const std::vector<std::int64_t>& sizes,
                                 std::int64_t documents, int token_bits, int ngram_bits, DocumentSlot* tokens,
                                 DocumentSlot* longer, int* bad_order);

}  // namespace softbellman::cpu
