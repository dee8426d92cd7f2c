// The CUDA launchers as functions of Python integers, in the argument order of csrc/losses/cuda_kernels.h.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>

#ifdef SOFTBELLMAN_WITH_CUDA
#include "losses/cuda_kernels.h"

namespace softbellman {
namespace {

namespace py = pybind11;

// A pointer crosses the boundary as the integer of its address, 0 for an absent one.
template <class Argument>
using Passed = std::conditional_t<std::is_pointer_v<Argument>, std::uintptr_t, Argument>;

template <class Argument>
Argument received(Passed<Argument> value) {
    if constexpr (std::is_pointer_v<Argument>) {
        return reinterpret_cast<Argument>(value);
    } else {
        return value;
    }
}

template <class... Arguments>
void define(py::module_& module, const char* name, void (*launcher)(Arguments...)) {
    module.def(name, [launcher](Passed<Arguments>... arguments) {
        const py::gil_scoped_release release;  // the first call of a process may have to create the device's context
        launcher(received<Arguments>(arguments)...);
    });
}

}  // namespace

void bind_cuda(py::module_& module) {
    define(module, "soft_value_forward", cuda::soft_value_forward);
    define(module, "soft_value_backward", cuda::soft_value_backward);
    define(module, "soft_bellman_forward", cuda::soft_bellman_forward);
    define(module, "soft_bellman_backward", cuda::soft_bellman_backward);
    define(module, "policy_forward", cuda::policy_forward);
    define(module, "policy_backward", cuda::policy_backward);
    define(module, "critic_forward", cuda::critic_forward);
    define(module, "critic_backward", cuda::critic_backward);
    define(module, "erac_forward", cuda::erac_forward);
    define(module, "distillation_forward", cuda::distillation_forward);
    define(module, "distillation_backward", cuda::distillation_backward);
    define(module, "sample_forward", cuda::sample_forward);
    module.def("row_workspace", cuda::row_workspace,
               "Bytes in which the blocks that share a row meet; 0 where every row has a block of its own.");
    module.attr("TICKETS") = cuda::kTickets;
    module.def("device_count", cuda::device_count, "Usable CUDA devices; 0 without a driver or on any error.");
    module.def("runtime_version", cuda::runtime_version,
               "Version of the CUDA runtime linked in, such as 13000; 0 on an error.");
}

}  // namespace softbellman
#endif
