// Python bindings of the edits on the CPU. edit_rows has a twin in edits_cuda.cpp, which differs in the trailing arguments,
// `threads` here, `device, stream` there, and looks for no invalid token. The tables are the host's for both.
#include <pybind11/pybind11.h>

#include "bind/edits_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace edits_arguments;

void bind_edits_cpu(py::module_& m) {
    m.def(
        "edit_rows",
        [](const Batch& batch, const std::vector<std::int64_t>& special, const Numbers& numbers, int threads) {
            const EditProblem problem = problem_of(batch, special, numbers);
            py::gil_scoped_release release;
            return cpu::edit_rows(problem, threads);
        },
        py::arg("batch"), py::arg("special"), py::arg("numbers"), py::arg("threads"));
    m.def(
        "hamming_table",
        [](std::int32_t length, std::int32_t columns, std::int64_t alphabet, double temperature, std::int64_t thresholds,
           std::int64_t log_normalizers) {
            cpu::hamming_table(length, columns, alphabet, temperature, address<std::int64_t>(thresholds),
                               address<double>(log_normalizers));
        },
        py::arg("length"), py::arg("columns"), py::arg("alphabet"), py::arg("temperature"), py::arg("thresholds"),
        py::arg("log_normalizers"));
    m.def(
        "edit_table",
        [](std::int32_t length, std::int32_t max_distance, std::int64_t alphabet, double temperature, double substitution,
           double insertion, double deletion, std::int64_t thresholds, std::int64_t log_normalizers) {
            return cpu::edit_table(length, max_distance, alphabet, temperature, substitution, insertion, deletion,
                                   address<std::int64_t>(thresholds), address<double>(log_normalizers));
        },
        py::arg("length"), py::arg("max_distance"), py::arg("alphabet"), py::arg("temperature"), py::arg("substitution"),
        py::arg("insertion"), py::arg("deletion"), py::arg("thresholds"), py::arg("log_normalizers"));
    // The logarithm and exponential that densities are made of, for tests.
    m.def("exact_log", &cpu::exact_log_of, py::arg("x"));
    m.def("exact_exp", &cpu::exact_exp_of, py::arg("x"));
}

}  // namespace softbellman
