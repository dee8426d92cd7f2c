// Python bindings of the edit distance on the CPU. All but edit_first_invalid_reference have twins in
// edit_distance_cuda.cpp, which differ in the trailing arguments: `threads` here, `device, stream` there.
#include <pybind11/pybind11.h>

#include "bind/edit_distance_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace edit_distance_arguments;

void bind_edit_distance_cpu(py::module_& m) {
    m.def(
        "edit_workspace", [](const Batch& batch, int threads) { return cpu::edit_workspace(problem_of(batch), threads); },
        py::arg("batch"), py::arg("threads"));
    m.def(
        "edit_distances",
        [](const Batch& batch, int output, std::int64_t out, std::int64_t workspace, int threads) {
            py::gil_scoped_release release;
            cpu::edit_distances(problem_of(batch), edit_request(output, out), address<void>(workspace), threads);
        },
        py::arg("batch"), py::arg("output"), py::arg("out"), py::arg("workspace"), py::arg("threads"));
    m.def(
        "completion_workspace",
        [](const Batch& batch, int threads) { return cpu::completion_workspace(problem_of(batch), threads); },
        py::arg("batch"), py::arg("threads"));
    m.def(
        "completion_values",
        [](const Batch& batch, std::int64_t vocabulary, const std::vector<std::int64_t>& specials, std::int64_t rows,
           std::int64_t row_count, int dtype, std::int64_t out, std::int64_t workspace, int threads) {
            const auto request = completion_request(batch, vocabulary, specials, rows, row_count, dtype, out);
            py::gil_scoped_release release;
            cpu::completion_values(problem_of(batch), request, address<void>(workspace), threads);
        },
        py::arg("batch"), py::arg("vocabulary"), py::arg("specials"), py::arg("rows"), py::arg("row_count"),
        py::arg("dtype"), py::arg("out"), py::arg("workspace"), py::arg("threads"));
    // The place in [B, L] of the first reference token outside [0, vocabulary), or -1. On a device such tokens count as ones
    // that cannot be produced: looking for them here would wait for it.
    m.def(
        "edit_first_invalid_reference",
        [](const Batch& batch, std::int64_t vocabulary) {
            return cpu::edit_first_invalid_reference(problem_of(batch), vocabulary);
        },
        py::arg("batch"), py::arg("vocabulary"));
}

}  // namespace softbellman
