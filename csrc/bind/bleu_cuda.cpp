// Python bindings of BLEU on the device; the twins of those in bleu.cpp.
#ifdef SOFTBELLMAN_WITH_CUDA
#include <pybind11/pybind11.h>

#include "bind/bleu_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace bleu_arguments;

void bind_bleu_cuda(py::module_& m) {
    m.def(
        "bleu_workspace", [](const Batch& batch, int, std::int64_t) { return cuda::bleu_workspace(problem_of(batch)); },
        py::arg("batch"), py::arg("device"), py::arg("stream"));
    m.def(
        "bleu_scores",
        [](const Batch& batch, int smoothing, double smooth_value, bool effective_order, int output, bool scale,
           bool float64, std::int64_t out, std::int64_t workspace, int device, std::int64_t stream) {
            py::gil_scoped_release release;
            const auto request = score_request(smoothing, smooth_value, effective_order, output, scale, float64, out);
            cuda::bleu_scores(problem_of(batch), request, address<void>(workspace), device, address<void>(stream));
        },
        py::arg("batch"), py::arg("smoothing"), py::arg("smooth_value"), py::arg("effective_order"), py::arg("output"),
        py::arg("scale"), py::arg("float64"), py::arg("out"), py::arg("workspace"), py::arg("device"), py::arg("stream"));
    m.def(
        "bleu_counts",
        [](const Batch& batch, bool every_prefix, std::int64_t out, std::int64_t workspace, int device,
           std::int64_t stream) {
            py::gil_scoped_release release;
            cuda::bleu_counts(problem_of(batch), count_request(every_prefix, out), address<void>(workspace), device,
                              address<void>(stream));
        },
        py::arg("batch"), py::arg("every_prefix"), py::arg("out"), py::arg("workspace"), py::arg("device"),
        py::arg("stream"));
}

}  // namespace softbellman
#endif
