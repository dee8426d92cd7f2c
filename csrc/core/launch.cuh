// What every launcher needs: kernel launch and shared memory under one spelling for nvcc and for the test-only SIMT shim
// (tests/simt/cuda_runtime.h), the guard that selects a device and restores the caller's, and errors as exceptions.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

// `kernel` is a name without a comma: for a template with several arguments take a pointer to it first.
// SB_SHARED(T, name, count) declares a static array of a block; SB_DYNAMIC_SHARED(name) the bytes given at the launch.
#ifdef __CUDACC__
#define SB_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define SB_SHARED(type, name, count) __shared__ type name[count]
#define SB_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#define SB_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    simt::launch(grid, block, shared_bytes, stream, [&] { kernel(__VA_ARGS__); })
#define SB_SHARED(type, name, count) \
    static char name##_site;         \
    type* const name = static_cast<type*>(simt::shared_array(&name##_site, sizeof(type) * (count)))
#define SB_DYNAMIC_SHARED(name) unsigned char* const name = simt::machine().dynamic.get()
#endif

// More blocks than this are never launched: a kernel strides over its rows. (The tests lower it to exercise that loop.)
#ifndef SB_MAX_BLOCKS
#define SB_MAX_BLOCKS (1u << 20)
#endif

namespace softbellman::cuda {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

// The error is said here, and must not be blamed on the next launch.
inline void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());
    throw std::runtime_error(std::string("softbellman CUDA: ") + what + " failed: " + cudaGetErrorString(error) + ".");
}

// To be called right after a launch: reports a launch that could not start, without waiting for the device.
inline void check_launch(const char* kernel) {
    check(cudaGetLastError(), kernel);
}

class DeviceGuard {
 public:
    explicit DeviceGuard(int device) {
        check(cudaGetDevice(&previous_), "reading the current device");
        if (device == previous_) return;
        check(cudaSetDevice(device), ("selecting device " + std::to_string(device)).c_str());
        changed_ = true;
    }
    ~DeviceGuard() {
        if (changed_) static_cast<void>(cudaSetDevice(previous_));
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
    int previous_ = 0;
    bool changed_ = false;
};

inline unsigned blocks_for(std::int64_t units, unsigned units_per_block) {
    const std::int64_t blocks = (units + units_per_block - 1) / units_per_block;
    return static_cast<unsigned>(std::min<std::int64_t>(blocks, SB_MAX_BLOCKS));
}

}  // namespace softbellman::cuda
