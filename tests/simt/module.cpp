// The CUDA launchers on the SIMT shim as a Python module: the functions of softbellman._C.cuda, on host memory.
#include <pybind11/pybind11.h>

#include <string>

#include "cuda_runtime.h"

namespace softbellman {
void bind_cuda(pybind11::module_&);
void bind_payoffs_cuda(pybind11::module_&);
}  // namespace softbellman

extern "C" int simt_run_fault(int fault, float* total, char* message, std::size_t size);
extern "C" int simt_run_split_fault(int fault, float* total, char* message, std::size_t size);

PYBIND11_MODULE(SIMT_MODULE, m) {
    softbellman::bind_cuda(m);
    softbellman::bind_payoffs_cuda(m);
    // 0: threads of a block run in ascending order until they must wait, and blocks in ascending order; 1: in descending
    // order, n > 1: in a shuffled one.
    m.def("set_schedule", [](int schedule) { simt::machine().schedule = schedule; });
    m.def("set_multiprocessors", [](int count) { simt::machine().multiprocessors = count; });
    m.def("current_device", [] { return simt::machine().device; });
    m.def("last_launch", [] {
        const simt::Machine& machine = simt::machine();
        return pybind11::make_tuple(machine.last_device, reinterpret_cast<std::uintptr_t>(machine.last_stream),
                                    machine.launches, machine.grid.x, machine.grid.y, machine.block.x, machine.block.y);
    });
    const auto define_fault = [&m](const char* name, int (*run)(int, float*, char*, std::size_t)) {
        m.def(name, [run](int fault) {
            float total = 0;
            char message[256] = "";
            run(fault, &total, message, sizeof message);
            return pybind11::make_tuple(total, std::string(message));
        });
    };
    define_fault("run_fault", simt_run_fault);
    define_fault("run_split_fault", simt_run_split_fault);
}
