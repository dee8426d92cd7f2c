// Python bindings of CIDEr-D and ROUGE-L on the device; the twins of those in payoffs.cpp.
#ifdef SOFTBELLMAN_WITH_CUDA
#include <pybind11/pybind11.h>

#include "bind/payoffs_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace payoff_arguments;

void bind_payoffs_cuda(py::module_& m) {
    m.def(
        "cider_workspace", [](const Batch& batch, int, std::int64_t) { return cuda::cider_workspace(problem_of(batch)); },
        py::arg("batch"), py::arg("device"), py::arg("stream"));
    m.def(
        "cider_scores",
        [](const Batch& batch, const Table& table, double unseen, double sigma, int output, bool scale, bool float64,
           std::int64_t out, std::int64_t workspace, int device, std::int64_t stream) {
            py::gil_scoped_release release;
            cuda::cider_scores(problem_of(batch), table_of(table, unseen), cider_request(sigma, output, scale, float64, out),
                               address<void>(workspace), device, address<void>(stream));
        },
        py::arg("batch"), py::arg("table"), py::arg("unseen"), py::arg("sigma"), py::arg("output"), py::arg("scale"),
        py::arg("float64"), py::arg("out"), py::arg("workspace"), py::arg("device"), py::arg("stream"));
    m.def(
        "rouge_workspace", [](const Batch& batch, int, std::int64_t) { return cuda::rouge_workspace(problem_of(batch)); },
        py::arg("batch"), py::arg("device"), py::arg("stream"));
    m.def(
        "rouge_scores",
        [](const Batch& batch, double beta, int output, bool scale, bool float64, std::int64_t out, std::int64_t workspace,
           int device, std::int64_t stream) {
            py::gil_scoped_release release;
            cuda::rouge_scores(problem_of(batch), rouge_request(beta, output, scale, float64, out), address<void>(workspace),
                               device, address<void>(stream));
        },
        py::arg("batch"), py::arg("beta"), py::arg("output"), py::arg("scale"), py::arg("float64"), py::arg("out"),
        py::arg("workspace"), py::arg("device"), py::arg("stream"));
}

}  // namespace softbellman
#endif
