#include "runtime.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "kernel_parser.h"

namespace ptx {
namespace {

constexpr int kDevices = 2;
constexpr unsigned kMostThreads = 1024, kMostBlocksAcross = 65535, kMostShared = 48 * 1024;

struct Configuration {
    dim3 grid, block;
    std::size_t shared;
    void* stream;
};

// All of it outlives every kernel's registration, which happens as the module is loaded.
struct Runtime {
    std::map<const void*, std::string> registered;  // what the host calls a kernel
    std::vector<Configuration> pushed;
    std::map<std::string, ModuleText> texts;     // of every file
    std::map<std::string, std::string> file_of;  // of every kernel
    std::map<std::string, Kernel> kernels;       // those parsed so far
    LastLaunch last;
    int device = 0;
    cudaError_t error = cudaSuccess;
    std::string failure;
};
Runtime& runtime() {
    static Runtime the_only;
    return the_only;
}

cudaError_t noted(cudaError_t error) {
    if (error != cudaSuccess) runtime().error = error;
    return error;
}

bool can_launch(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared) {
    const unsigned threads = block.x * block.y * block.z;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 || threads > kMostThreads) return false;
    if (grid.y > kMostBlocksAcross || grid.z > kMostBlocksAcross) return false;
    if (kernel.most_threads > 0 && threads > static_cast<unsigned>(kernel.most_threads)) return false;
    return shared + static_cast<unsigned>(kernel.shared_bytes) <= kMostShared;
}

Extent extent(dim3 size) {
    return {size.x, size.y, size.z};
}

cudaError_t run(const std::string& name, dim3 grid, dim3 block, void** arguments, std::size_t shared, void* stream) {
    Runtime& all = runtime();
    all.last = {all.device, reinterpret_cast<std::uintptr_t>(stream), all.last.number + 1, extent(grid), extent(block)};
    try {
        const Kernel& kernel = kernel_named(name);
        if (!can_launch(kernel, grid, block, shared)) return noted(cudaErrorInvalidConfiguration);
        Launch launch{kernel, extent(grid), extent(block), {}, static_cast<unsigned>(shared)};
        launch.parameters.resize(static_cast<std::size_t>(kernel.parameter_bytes));
        for (std::size_t k = 0; k < kernel.parameters.size(); ++k)
            std::memcpy(launch.parameters.data() + kernel.parameters[k].offset, arguments[k],
                        static_cast<std::size_t>(kernel.parameters[k].bytes));
        ++counters.launches[name];
        Machine(std::move(launch)).run();
        return cudaSuccess;
    } catch (const std::exception& error) {
        all.failure = error.what();
        return noted(cudaErrorLaunchFailure);
    }
}

}  // namespace

const LastLaunch& last_launch() {
    return runtime().last;
}
int current_device() {
    return runtime().device;
}

void load(const std::string& path) {
    Runtime& all = runtime();
    ModuleText text = read_module(path);
    for (const std::string& kernel : text.kernels) all.file_of[kernel] = path;
    all.texts[path] = std::move(text);
}

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const auto& [name, file] : runtime().file_of) names.push_back(name);
    return names;
}

const Kernel& kernel_named(const std::string& name) {
    Runtime& all = runtime();
    const auto parsed = all.kernels.find(name);
    if (parsed != all.kernels.end()) return parsed->second;
    const auto file = all.file_of.find(name);
    if (file == all.file_of.end()) fail("no file that was loaded has the kernel " + name);
    return all.kernels.emplace(name, parse_kernel(all.texts.at(file->second), name)).first->second;
}

}  // namespace ptx

using ptx::runtime;

extern "C" {

void** __cudaRegisterFatBinary(void*) {
    static void* handle = nullptr;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
    return 1;
}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
    runtime().registered[host] = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, CUstream_st* stream) {
    runtime().pushed.push_back({grid, block, shared, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
    const ptx::Configuration top = runtime().pushed.back();
    runtime().pushed.pop_back();
    *grid = top.grid;
    *block = top.block;
    *shared = top.shared;
    *static_cast<void**>(stream) = top.stream;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                             cudaStream_t stream) {
    const auto found = runtime().registered.find(function);
    if (found == runtime().registered.end()) return ptx::noted(cudaErrorInvalidDeviceFunction);
    return ptx::run(found->second, grid, block, arguments, shared, stream);
}
// Later toolkits launch by a handle: here, the function itself.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
    *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                               cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = runtime().error;
    runtime().error = cudaSuccess;
    return error;
}
const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaErrorLaunchFailure:
            return runtime().failure.c_str();
        case cudaErrorInvalidDevice:
            return "invalid device ordinal";
        case cudaErrorInvalidConfiguration:
            return "invalid configuration argument";
        default:
            return "another error";
    }
}
cudaError_t cudaGetDevice(int* device) {
    *device = runtime().device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= ptx::kDevices) return ptx::noted(cudaErrorInvalidDevice);
    runtime().device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = ptx::kDevices;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrMultiProcessorCount ? ptx::settings.multiprocessors : 0;
    return cudaSuccess;
}

}  // extern "C"
