// Python binding of the edits on the device; the twin of edit_rows in edits.cpp.
#ifdef SOFTBELLMAN_WITH_CUDA
#include <pybind11/pybind11.h>

#include "bind/edits_arguments.h"

namespace py = pybind11;

namespace softbellman {

using namespace edits_arguments;

void bind_edits_cuda(py::module_& m) {
    m.def(
        "edit_rows",
        [](const Batch& batch, const std::vector<std::int64_t>& special, const Numbers& numbers, int device,
           std::int64_t stream) {
            const EditProblem problem = problem_of(batch, special, numbers);
            py::gil_scoped_release release;
            cuda::edit_rows(problem, device, address<void>(stream));
        },
        py::arg("batch"), py::arg("special"), py::arg("numbers"), py::arg("device"), py::arg("stream"));
}

}  // namespace softbellman
#endif
