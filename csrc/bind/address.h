// A pointer that crossed the Python boundary as an integer.
#pragma once
#include <cstdint>

namespace softbellman {

template <class T>
T* address(std::int64_t value) {
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(value));
}

}  // namespace softbellman
