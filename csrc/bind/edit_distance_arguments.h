// How a batch of the edit distance and what is asked about it cross the Python boundary: integers (addresses, sizes, strides
// in elements, flags).
#pragma once
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "payoffs/edit_distance.h"
#include "bind/address.h"

namespace softbellman::edit_distance_arguments {

// A batch, as a tuple of these integers in this order.
enum Field : int {  // clang-format off
  kHypotheses, kHypothesisSourceStride, kHypothesisStride, kHypothesisLengths,
  kReferences, kReferenceStride, kReferenceLengths,
  kSources, kSamples, kLength, kReferenceLength, kHasEos, kEos, kFieldCount
};  // clang-format on
using Batch = std::array<std::int64_t, kFieldCount>;

inline EditDistanceProblem problem_of(const Batch& batch) {
    EditDistanceProblem problem;
    problem.hypotheses = address<const std::int64_t>(batch[kHypotheses]);
    problem.hypothesis_source_stride = batch[kHypothesisSourceStride];
    problem.hypothesis_stride = batch[kHypothesisStride];
    problem.hypothesis_lengths = address<const std::int64_t>(batch[kHypothesisLengths]);
    problem.references = address<const std::int64_t>(batch[kReferences]);
    problem.reference_stride = batch[kReferenceStride];
    problem.reference_lengths = address<const std::int64_t>(batch[kReferenceLengths]);
    problem.sources = batch[kSources];
    problem.samples = batch[kSamples];
    problem.length = static_cast<std::int32_t>(batch[kLength]);
    problem.reference_length = static_cast<std::int32_t>(batch[kReferenceLength]);
    problem.has_eos = batch[kHasEos] != 0;
    problem.eos = batch[kEos];
    return problem;
}

inline EditDistanceRequest edit_request(int output, std::int64_t out) {
    return {static_cast<EditDistanceOutput>(output), address<void>(out)};
}

// The ids index the rows that are written, so they are checked here again.
inline CompletionRequest completion_request(const Batch& batch, std::int64_t vocabulary,
                                            const std::vector<std::int64_t>& specials, std::int64_t rows,
                                            std::int64_t row_count, int dtype, std::int64_t out) {
    if (specials.size() > kMostSpecialTokens)
        throw std::invalid_argument("specials must hold at most 16 ids, got " + std::to_string(specials.size()) + ".");
    const auto outside = [&](std::int64_t token) { return token < 0 || token >= vocabulary; };
    if (outside(batch[kEos]) || std::any_of(specials.begin(), specials.end(), outside))
        throw std::invalid_argument("specials and eos must be ids in [0, " + std::to_string(vocabulary) + ").");
    CompletionRequest request{};
    request.vocabulary = vocabulary;
    request.eos = batch[kEos];
    request.special_count = static_cast<std::int32_t>(specials.size());
    std::copy(specials.begin(), specials.end(), request.specials);
    request.rows = address<const std::int64_t>(rows);
    request.row_count = row_count;
    request.dtype = dtype;
    request.out = address<void>(out);
    return request;
}

}  // namespace softbellman::edit_distance_arguments
