// How a BLEU batch and what is asked about it cross the Python boundary: integers (addresses, sizes, strides in elements,
// flags).
#pragma once
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "payoffs/bleu.h"
#include "bind/address.h"

namespace softbellman::bleu_arguments {

// A batch, as a tuple of these integers in this order.
enum Field : int {  // clang-format off
  kHypotheses, kHypothesisSourceStride, kHypothesisStride, kHypothesisLengths,
  kReferences, kReferenceSourceStride, kReferenceStride, kReferenceLengths,
  kSources, kSamples, kLength, kReferenceCount, kReferenceLength, kMaxOrder,
  kHasEos, kEos, kHasUnmatched, kUnmatched, kFieldCount
};  // clang-format on
using Batch = std::array<std::int64_t, kFieldCount>;

inline BleuProblem problem_of(const Batch& batch) {
    BleuProblem problem;
    problem.hypotheses = address<const std::int64_t>(batch[kHypotheses]);
    problem.hypothesis_source_stride = batch[kHypothesisSourceStride];
    problem.hypothesis_stride = batch[kHypothesisStride];
    problem.hypothesis_lengths = address<const std::int64_t>(batch[kHypothesisLengths]);
    problem.references = address<const std::int64_t>(batch[kReferences]);
    problem.reference_source_stride = batch[kReferenceSourceStride];
    problem.reference_stride = batch[kReferenceStride];
    problem.reference_lengths = address<const std::int64_t>(batch[kReferenceLengths]);
    problem.sources = batch[kSources];
    problem.samples = batch[kSamples];
    problem.length = static_cast<std::int32_t>(batch[kLength]);
    problem.reference_count = static_cast<std::int32_t>(batch[kReferenceCount]);
    problem.reference_length = static_cast<std::int32_t>(batch[kReferenceLength]);
    problem.max_order = static_cast<std::int32_t>(batch[kMaxOrder]);
    problem.has_eos = batch[kHasEos] != 0;
    problem.eos = batch[kEos];
    problem.has_unmatched = batch[kHasUnmatched] != 0;
    problem.unmatched = batch[kUnmatched];
    return problem;
}

inline BleuScoreRequest score_request(int smoothing, double smooth_value, bool effective_order, int output, bool scale,
                                      bool float64, std::int64_t out) {
    const BleuScoring scoring{static_cast<BleuSmoothing>(smoothing), smooth_value, effective_order};
    return {scoring, static_cast<BleuOutput>(output), scale, float64, address<void>(out)};
}

inline BleuCountRequest count_request(bool every_prefix, std::int64_t out) {
    return {every_prefix, address<std::int64_t>(out)};
}

}  // namespace softbellman::bleu_arguments
