// Python functions of softbellman._C.cpu: the losses, and what tests and measurements ask for.
#include <string>

#include "bind/address.h"
#include "bind/losses.h"
#include "core/exponential.h"
#include "core/huge_pages.h"

namespace softbellman {

namespace py = pybind11;

void bind_cpu(py::module_& module) {
    SB_DEFINE_LOSSES(module, cpu);
    module.def(
        "exponential",
        [](int64_t x, int64_t count, int dtype, double scale, int64_t result) {
            if (dtype != kFloat32 && dtype != kFloat64) {
                throw std::invalid_argument("dtype must be 0 or 1, got " + std::to_string(dtype) + ".");
            }
            if (count < 0) throw std::invalid_argument("count must be at least 0, got " + std::to_string(count) + ".");
            if (x == 0 || result == 0) throw std::invalid_argument("x and result must not be null pointers.");
            cpu::exponential(address<const void>(x), count, dtype, scale, address<void>(result));
        },
        py::arg("x"), py::arg("count"), py::arg("dtype"), py::arg("scale"), py::arg("result"),
        "exp(scale * x) as the kernels compute it; for tests and measurements.");
    module.def(
        "ask_for_huge_pages",
        [](int64_t data, int64_t bytes) { return cpu::ask_for_huge_pages(address<void>(data), bytes); }, py::arg("data"),
        py::arg("bytes"));
    module.attr("HUGE_PAGE_MINIMUM") = cpu::kHugePageMinimum;
}

}  // namespace softbellman
