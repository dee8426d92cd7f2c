// What can be asked of the CUDA runtime without owning a device.
#include "core/device.h"

#include "core/launch.cuh"

namespace softbellman::cuda {

int device_count() noexcept {
    int count = 0;
    const bool ok = cudaGetDeviceCount(&count) == cudaSuccess;
    static_cast<void>(cudaGetLastError());  // a failed query must not be blamed on the next launch
    return ok ? count : 0;
}

int runtime_version() noexcept {
    int version = 0;
    return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}

}  // namespace softbellman::cuda
