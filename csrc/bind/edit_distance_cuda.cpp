// Python bindings of the edit distance on the device; the twins of those in edit_distance.cpp.
#ifdef SOFTBELLMAN_WITH_CUDA
#include <pybind11/pybind11.h>

#include "bind/edit_distance_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace edit_distance_arguments;

void bind_edit_distance_cuda(py::module_& m) {
    m.def(
        "edit_workspace", [](const Batch& batch, int, std::int64_t) { return cuda::edit_workspace(problem_of(batch)); },
        py::arg("batch"), py::arg("device"), py::arg("stream"));
    m.def(
        "edit_distances",
        [](const Batch& batch, int output, std::int64_t out, std::int64_t workspace, int device, std::int64_t stream) {
            py::gil_scoped_release release;
            cuda::edit_distances(problem_of(batch), edit_request(output, out), address<void>(workspace), device,
                                 address<void>(stream));
        },
        py::arg("batch"), py::arg("output"), py::arg("out"), py::arg("workspace"), py::arg("device"), py::arg("stream"));
    m.def(
        "completion_workspace",
        [](const Batch& batch, int, std::int64_t) { return cuda::completion_workspace(problem_of(batch)); },
        py::arg("batch"), py::arg("device"), py::arg("stream"));
    m.def(
        "completion_values",
        [](const Batch& batch, std::int64_t vocabulary, const std::vector<std::int64_t>& specials, std::int64_t rows,
           std::int64_t row_count, int dtype, std::int64_t out, std::int64_t workspace, int device, std::int64_t stream) {
            const auto request = completion_request(batch, vocabulary, specials, rows, row_count, dtype, out);
            py::gil_scoped_release release;
            cuda::completion_values(problem_of(batch), request, address<void>(workspace), device, address<void>(stream));
        },
        py::arg("batch"), py::arg("vocabulary"), py::arg("specials"), py::arg("rows"), py::arg("row_count"),
        py::arg("dtype"), py::arg("out"), py::arg("workspace"), py::arg("device"), py::arg("stream"));
}

}  // namespace softbellman
#endif
