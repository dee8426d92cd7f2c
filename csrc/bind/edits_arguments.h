// How a batch of edits crosses the Python boundary: integers (addresses, sizes, strides in elements, flags), numbers, and
// the special ids.
#pragma once
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "payoffs/edits.h"
#include "bind/address.h"

namespace softbellman::edits_arguments {

// A batch, as a tuple of these integers and a tuple of these numbers in this order.
enum Field : int {  // clang-format off
  kTokens, kRowStride, kLengths, kSources, kSamples, kLength, kWidth, kVocabulary, kSeed, kOffset,
  kProposal, kMaxOrder, kMaxDistance, kThresholds, kLogNormalizers, kScaleExponent,
  kKeepGold, kDraw, kPad, kEdited, kEditedLengths, kLogDensity, kFieldCount
};
enum Number : int { kRate, kTemperature, kSubstitution, kInsertion, kDeletion, kNumberCount };
// clang-format on
using Batch = std::array<std::int64_t, kFieldCount>;
using Numbers = std::array<double, kNumberCount>;

// `special`: at most 16, ascending, without repetition, each inside the vocabulary.
inline EditProblem problem_of(const Batch& batch, const std::vector<std::int64_t>& special, const Numbers& numbers) {
    EditProblem problem{};
    problem.tokens = address<const std::int64_t>(batch[kTokens]);
    problem.row_stride = batch[kRowStride];
    problem.lengths = address<const std::int64_t>(batch[kLengths]);
    problem.sources = batch[kSources];
    problem.samples = batch[kSamples];
    problem.length = static_cast<std::int32_t>(batch[kLength]);
    problem.width = static_cast<std::int32_t>(batch[kWidth]);
    problem.vocabulary = batch[kVocabulary];
    problem.special_count = static_cast<int>(special.size() < kEditSpecials ? special.size() : kEditSpecials);
    for (int s = 0; s < problem.special_count; ++s) problem.special[s] = special[s];
    problem.largest_special = problem.special_count > 0 ? problem.special[problem.special_count - 1] : -1;
    problem.alphabet = problem.vocabulary - problem.special_count;
    problem.seed = static_cast<std::uint64_t>(batch[kSeed]);
    problem.offset = static_cast<std::uint64_t>(batch[kOffset]);
    problem.proposal = static_cast<EditProposal>(batch[kProposal]);

    const auto any = static_cast<double>(problem.alphabet), others = static_cast<double>(problem.alphabet - 1);
    problem.max_order = static_cast<std::int32_t>(batch[kMaxOrder]);
    for (int t = 0; problem.proposal == EditProposal::ngram && t <= kEditLargestOrder; ++t)
        problem.inverse_power[t] = 1.0 / std::pow(any, t);
    const bool replaceable = problem.alphabet > 1;  // there is another token
    const double rate = replaceable ? numbers[kRate] : 0.0;
    problem.rate_threshold = static_cast<std::uint64_t>(std::ldexp(rate, kEditDecisionBits));
    problem.log_change = replaceable ? std::log(rate / others) : -INFINITY;
    problem.log_stay = std::log1p(-rate);
    problem.max_distance = static_cast<std::int32_t>(batch[kMaxDistance]);
    problem.temperature = numbers[kTemperature];
    problem.thresholds = address<const std::int64_t>(batch[kThresholds]);
    problem.log_normalizers = address<const double>(batch[kLogNormalizers]);

    const int exponent = static_cast<int>(batch[kScaleExponent]);
    problem.substitution = replaceable ? std::ldexp(numbers[kSubstitution] / others, exponent) : 0.0;
    problem.insertion = problem.alphabet > 0 ? std::ldexp(numbers[kInsertion] / any, exponent) : 0.0;
    problem.deletion = std::ldexp(numbers[kDeletion], exponent);
    problem.scale_exponent = exponent;
    problem.keep_gold = batch[kKeepGold] != 0;
    const auto samples = static_cast<double>(problem.samples);
    problem.log_gold = -std::log(samples);
    problem.log_rest = std::log1p(-1.0 / samples);

    problem.draw = batch[kDraw] != 0;
    problem.pad = batch[kPad];
    problem.edited = address<std::int64_t>(batch[kEdited]);
    problem.edited_lengths = address<std::int64_t>(batch[kEditedLengths]);
    problem.log_density = address<double>(batch[kLogDensity]);
    return problem;
}

}  // namespace softbellman::edits_arguments
