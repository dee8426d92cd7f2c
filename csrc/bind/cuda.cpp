// Python functions of softbellman._C.cuda: the losses, and what can be asked of a device.
#ifdef SOFTBELLMAN_WITH_CUDA
#include "bind/losses.h"

namespace softbellman {

void bind_cuda(pybind11::module_& module) {
    SB_DEFINE_LOSSES(module, cuda);
    module.def("row_workspace", cuda::row_workspace,
               "Bytes in which the blocks that share a row meet; 0 where every row has a block of its own.");
    module.attr("TICKETS") = cuda::kTickets;
    module.def("device_count", cuda::device_count, "Usable CUDA devices; 0 without a driver or on any error.");
    module.def("runtime_version", cuda::runtime_version,
               "Version of the CUDA runtime linked in, such as 13000; 0 on an error.");
}

}  // namespace softbellman
#endif
