// The module softbellman._C: submodule `cpu`, submodule `cuda` where nvcc built one, and what was built.
#include <pybind11/pybind11.h>

#include <string>

#include "core/parallel.h"
#include "core/product.h"
#include "core/simd.h"

namespace py = pybind11;

namespace softbellman {
void bind_cpu(py::module_& module);
void bind_payoffs_cpu(py::module_& module);
#if defined(SOFTBELLMAN_WITH_CUDA)
void bind_cuda(py::module_& module);
void bind_payoffs_cuda(py::module_& module);
#endif
}  // namespace softbellman

#if defined(__clang__)
#define SB_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define SB_COMPILER "gcc " __VERSION__
#else
#define SB_COMPILER "unknown"
#endif

namespace {

py::dict build_info() {
    py::dict info;
    info["version"] = SB_VERSION;
    info["source_digest"] = SB_SOURCE_DIGEST;
    info["compiler"] = SB_COMPILER;
    info["simd_targets"] = softbellman::cpu::simd_targets();
    info["simd_active"] = softbellman::cpu::simd_name(softbellman::cpu::simd_level());
    info["products"] = softbellman::cpu::product_is_faster() ? "native" : "blas";
    info["threading"] = softbellman::cpu::threading_name();
#if defined(SOFTBELLMAN_WITH_CUDA)
    info["cuda"] = true;
    info["cuda_architectures"] = SB_CUDA_ARCHITECTURES;
    info["cuda_version"] = SB_CUDA_VERSION;
#else
    info["cuda"] = false;
    info["cuda_architectures"] = "";
    info["cuda_version"] = "";
#endif
    return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
    module.doc() = "Native kernels of softbellman; softbellman itself is the interface meant for use.";
    module.def("build_info", &build_info, "What was built: compiler, instruction sets, CUDA, version, source digest.");

    py::module_ cpu = module.def_submodule("cpu", "Kernels on host memory.");
    softbellman::bind_cpu(cpu);
    softbellman::bind_payoffs_cpu(cpu);
#if defined(SOFTBELLMAN_WITH_CUDA)
    py::module_ cuda = module.def_submodule("cuda", "Kernels on device memory.");
    softbellman::bind_cuda(cuda);
    softbellman::bind_payoffs_cuda(cuda);
#endif
}
