// How document frequencies and requests for CIDEr-D and ROUGE-L cross the Python boundary, beside the batch of
// bleu_arguments.h.
#pragma once
#include <array>
#include <cstdint>

#include "payoffs/cider.h"
#include "payoffs/rouge.h"
#include "bind/address.h"
#include "bind/bleu_arguments.h"

namespace softbellman::payoff_arguments {

using bleu_arguments::Batch;
using bleu_arguments::problem_of;

// Addresses of the slots of the tokens and of the longer n-grams, then the binary logarithms of how many there are.
using Table = std::array<std::int64_t, 4>;

inline DocumentTable table_of(const Table& table, double unseen) {
    const int token_bits = static_cast<int>(table[2]), ngram_bits = static_cast<int>(table[3]);
    return {address<const DocumentSlot>(table[0]),
            address<const DocumentSlot>(table[1]),
            static_cast<std::int32_t>((std::int64_t(1) << token_bits) - 1),
            static_cast<std::int32_t>((std::int64_t(1) << ngram_bits) - 1),
            64 - token_bits,
            64 - ngram_bits,
            unseen};
}

inline CiderRequest cider_request(double sigma, int output, bool scale, bool float64, std::int64_t out) {
    return {sigma, static_cast<BleuOutput>(output), scale, float64, address<void>(out)};
}

inline RougeRequest rouge_request(double beta, int output, bool scale, bool float64, std::int64_t out) {
    return {beta, static_cast<BleuOutput>(output), scale, float64, address<void>(out)};
}

}  // namespace softbellman::payoff_arguments
