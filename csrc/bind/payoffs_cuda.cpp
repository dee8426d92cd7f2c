// Python functions of softbellman._C.cuda: the payoffs.
#ifdef SOFTBELLMAN_WITH_CUDA
#include "bind/payoffs.h"

namespace softbellman {

void bind_payoffs_cuda(pybind11::module_& m) {
    SB_DEFINE_PAYOFFS(m, cuda);
}

}  // namespace softbellman
#endif
