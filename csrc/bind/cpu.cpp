// Python functions of softbellman._C.cpu: the losses, and what tests and measurements ask for.
#include <string>
#include <tuple>

#include "bind/address.h"
#include "bind/losses.h"
#include "core/exponential.h"
#include "core/huge_pages.h"
#include "core/product.h"

namespace softbellman {

namespace py = pybind11;

namespace {

// A factor as (address, row stride, column stride).
cpu::Strided factor(const char* name, const std::tuple<int64_t, int64_t, int64_t>& given, bool read) {
    if (read && std::get<0>(given) == 0) throw std::invalid_argument(std::string(name) + " must not be a null pointer.");
    return {address<const float>(std::get<0>(given)), std::get<1>(given), std::get<2>(given)};
}

using Factor = std::tuple<int64_t, int64_t, int64_t>;

void product(int64_t rows, int64_t columns, int64_t inner, const Factor& left, const Factor& right, int64_t out,
             int64_t out_row, int64_t bias, double scale, bool keep, int threads) {
    constexpr int64_t kMost = int64_t{1} << 40;
    for (const int64_t size : {rows, columns, inner}) {
        if (size < 0 || size > kMost)
            throw std::invalid_argument("sizes must be from 0 to 2**40, got " + std::to_string(size) + ".");
    }
    if (rows == 0 || columns == 0) return;
    if (out == 0) throw std::invalid_argument("out must not be a null pointer.");
    if (rows > 1 && out_row < columns) throw std::invalid_argument("rows of out must not overlap.");
    if (keep && bias != 0) throw std::invalid_argument("a bias is added to a new product alone.");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads) + ".");
    cpu::Product arguments;
    arguments.rows = rows, arguments.columns = columns, arguments.inner = inner;
    arguments.left = factor("left", left, inner > 0), arguments.right = factor("right", right, inner > 0);
    arguments.out = address<float>(out), arguments.out_row = out_row;
    arguments.bias = address<const float>(bias);
    arguments.scale = static_cast<float>(scale), arguments.keep = keep;
    const py::gil_scoped_release release;
    cpu::product(arguments, threads);
}

}  // namespace

void bind_cpu(py::module_& module) {
    SB_DEFINE_LOSSES(module, cpu);
    module.def("product", &product, py::kw_only(), py::arg("rows"), py::arg("columns"), py::arg("inner"), py::arg("left"),
               py::arg("right"), py::arg("out"), py::arg("out_row"), py::arg("bias"), py::arg("scale"), py::arg("keep"),
               py::arg("threads"), "scale * left @ right, float32; see core/product.h.");
    module.attr("PRODUCT_IS_FASTER") = cpu::product_is_faster();
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
