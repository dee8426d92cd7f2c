// What can be asked of the CUDA runtime without owning a device.
#include "core/device.h"

#include "core/launch.cuh"

namespace softbellman::cuda {

int device_count() noexcept {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    static_cast<void>(cudaGetLastError());  // a failed query must not be blamed on the next launch
    return 0;
}

int runtime_version() noexcept {
    int version = 0;
    if (cudaRuntimeGetVersion(&version) == cudaSuccess) return version;
    static_cast<void>(cudaGetLastError());
    return 0;
}

}  // namespace softbellman::cuda
