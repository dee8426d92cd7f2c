// The CUDA launchers on the PTX interpreter as a Python module: the functions of softbellman._C.cuda, on host memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "runtime.h"
#include "sum_rows.h"

namespace py = pybind11;

namespace softbellman {
void bind_cuda(py::module_&);
void bind_payoffs_cuda(py::module_&);
}  // namespace softbellman

extern "C" int simt_run_fault(int fault, float* total, char* message, std::size_t size);
extern "C" int simt_run_split_fault(int fault, float* total, char* message, std::size_t size);

namespace {

using RegionFields = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;

void bind_settings(py::module_& m) {
    m.def("set_schedule", [](int schedule) { ptx::settings.schedule = schedule; });
    m.def("set_multiprocessors", [](int count) { ptx::settings.multiprocessors = count; });
    m.def("set_check_races", [](bool check) { ptx::settings.check_races = check; });
    m.def("set_approximate", [](bool approximate) { ptx::settings.approximate = approximate; });
    m.def("set_interleaving", [](unsigned blocks, unsigned quantum) {
        ptx::settings.resident_blocks = blocks;
        ptx::settings.quantum = quantum;
    });
    // (start, bytes of a row, bytes between rows, rows)
    m.def("set_regions", [](const std::vector<RegionFields>& regions) {
        ptx::settings.regions.clear();
        for (const auto& [start, row_bytes, stride, rows] : regions)
            ptx::settings.regions.push_back({start, row_bytes, stride, rows});
    });
}

py::tuple last_launch() {
    const ptx::LastLaunch& last = ptx::last_launch();
    return py::make_tuple(last.device, last.stream, last.number, last.grid.x, last.grid.y, last.block.x, last.block.y);
}

py::dict counters() {
    py::dict all;
    all["instructions"] = ptx::counters.instructions;
    all["divergences"] = ptx::counters.divergences;
    all["meetings"] = ptx::counters.meetings;
    all["barriers"] = ptx::counters.barriers;
    all["fences"] = ptx::counters.fences;
    all["tickets"] = ptx::counters.tickets;
    all["launches"] = ptx::counters.launches;
    return all;
}

// The texts of a kernel's instructions.
std::vector<std::string> instructions(const std::string& kernel) {
    std::vector<std::string> texts;
    for (const ptx::Instruction& in : ptx::kernel_named(kernel).code) texts.push_back(in.text);
    return texts;
}

void define_fault(py::module_& m, const char* name, int (*run)(int, float*, char*, std::size_t)) {
    m.def(name, [run](int fault) {
        float total = 0;
        char message[512] = "";
        run(fault, &total, message, sizeof message);
        return py::make_tuple(total, std::string(message));
    });
}

}  // namespace

PYBIND11_MODULE(PTX_MODULE, m) {
    softbellman::bind_cuda(m);
    softbellman::bind_payoffs_cuda(m);
    bind_settings(m);
    m.def("load", ptx::load);
    m.def("kernels", ptx::kernel_names);
    m.def("instructions", instructions);
    m.def("current_device", ptx::current_device);
    m.def("last_launch", last_launch);
    m.def("counters", counters);
    define_fault(m, "run_fault", simt_run_fault);
    define_fault(m, "run_split_fault", simt_run_split_fault);
    // The totals of rows [rows, length] by the variant of split_rows.cuh that has the number.
    m.def("sum_rows", [](int variant, std::uintptr_t values, std::int64_t rows, std::int64_t length, std::uintptr_t totals,
                         std::uintptr_t partials, std::int64_t partials_bytes, std::uintptr_t tickets) {
        softbellman::cuda::Launch launch;
        launch.partials = reinterpret_cast<void*>(partials);
        launch.partials_bytes = partials_bytes;
        launch.tickets = reinterpret_cast<unsigned*>(tickets);
        ptx::sum_rows_variants().at(variant)(reinterpret_cast<const float*>(values), rows, length,
                                             reinterpret_cast<float*>(totals), launch);
    });
}
