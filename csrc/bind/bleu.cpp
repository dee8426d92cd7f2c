// Python bindings of BLEU on the CPU. bleu_workspace, bleu_scores and bleu_counts have twins in bleu_cuda.cpp, which differ
// in the trailing arguments: `threads` here, `device, stream` there.
#include <pybind11/pybind11.h>

#include <vector>

#include "bind/bleu_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace bleu_arguments;

void bind_bleu_cpu(py::module_& m) {
    m.def(
        "bleu_workspace", [](const Batch& batch, int threads) { return cpu::bleu_workspace(problem_of(batch), threads); },
        py::arg("batch"), py::arg("threads"));
    m.def(
        "bleu_scores",
        [](const Batch& batch, int smoothing, double smooth_value, bool effective_order, int output, bool scale,
           bool float64, std::int64_t out, std::int64_t workspace, int threads) {
            py::gil_scoped_release release;
            const auto request = score_request(smoothing, smooth_value, effective_order, output, scale, float64, out);
            cpu::bleu_scores(problem_of(batch), request, address<void>(workspace), threads);
        },
        py::arg("batch"), py::arg("smoothing"), py::arg("smooth_value"), py::arg("effective_order"), py::arg("output"),
        py::arg("scale"), py::arg("float64"), py::arg("out"), py::arg("workspace"), py::arg("threads"));
    m.def(
        "bleu_counts",
        [](const Batch& batch, bool every_prefix, std::int64_t out, std::int64_t workspace, int threads) {
            py::gil_scoped_release release;
            cpu::bleu_counts(problem_of(batch), count_request(every_prefix, out), address<void>(workspace), threads);
        },
        py::arg("batch"), py::arg("every_prefix"), py::arg("out"), py::arg("workspace"), py::arg("threads"));
    // BLEU in [0, 1] of counts that were added up: [matches 1..n, totals 1..n, length, reference length].
    m.def(
        "bleu_corpus_score",
        [](const std::vector<std::int64_t>& counts, int smoothing, double smooth_value, bool effective_order) {
            const std::size_t order = (counts.size() - 2) / 2;
            const BleuScoring scoring{static_cast<BleuSmoothing>(smoothing), smooth_value, effective_order};
            const double brevity = bleu_brevity_penalty(counts[2 * order], counts[2 * order + 1]);
            return bleu_score(counts.data(), counts.data() + order, static_cast<int>(order), brevity, scoring);
        },
        py::arg("counts"), py::arg("smoothing"), py::arg("smooth_value"), py::arg("effective_order"));
    // The position of the first length outside [0, limit], or -1. On a device lengths are clamped instead: reading them
    // here would wait for it.
    m.def(
        "bleu_first_invalid_length",
        [](std::int64_t lengths, std::int64_t count, std::int64_t limit) -> std::int64_t {
            const auto* values = address<const std::int64_t>(lengths);
            for (std::int64_t i = 0; i < count; ++i)
                if (values[i] < 0 || values[i] > limit) return i;
            return -1;
        },
        py::arg("lengths"), py::arg("count"), py::arg("limit"));
}

}  // namespace softbellman
