// A draw from softmax(logits / temperature) without the forbidden columns, its log-probability and the entropy of that
// distribution.
#pragma once

#include "core/device.h"
#include "core/philox.h"
#include "core/rows.h"

namespace softbellman {

struct SampleForward {
    Rows shape;
    Matrix logits;
    double temperature = 1.0;
    NoiseStream noise{};
    const uint8_t* forbidden = nullptr;  // [vocab]; null: none
    int64_t* tokens = nullptr;
    void *log_prob = nullptr, *entropy = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.temperature("temperature", temperature);
        fields.counter("seed", noise.seed);
        fields.counter("offset", noise.offset);
        fields.counter("row_base", noise.row_base);
        fields.optional_array("seed_at", noise.seed_at, 1);
        fields.optional_array("offset_at", noise.offset_at, 1);
        fields.optional_array("row_numbers", noise.row_numbers, shape.rows);
        fields.optional_array("forbidden", forbidden, shape.vocab);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.array("tokens", tokens, shape.rows);
        fields.number("log_prob", log_prob);
        fields.number("entropy", entropy);
    }
};

namespace cpu {
void sample_forward(const SampleForward& in, int threads);
}  // namespace cpu
namespace cuda {
void sample_forward(const SampleForward& in, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman
