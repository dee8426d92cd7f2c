// The CUDA runtime's entry points, as far as the launchers call them: kernels run on the interpreter, on host memory.
#pragma once

#include <cstdint>
#include <string>

#include "machine.h"

namespace ptx {

struct LastLaunch {
    int device = -1;
    std::uintptr_t stream = 0;
    std::uint64_t number = 0;
    Extent grid, block;
};

const LastLaunch& last_launch();
int current_device();
// Reads the kernels of a file that nvcc wrote.
void load(const std::string& path);
std::vector<std::string> kernel_names();
const Kernel& kernel_named(const std::string& name);

}  // namespace ptx
