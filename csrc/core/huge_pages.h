#pragma once

#include <cstdint>

namespace softbellman::cpu {

// Asks the system to back memory that is about to be written by huge pages; false where it is too little, the system has
// none or SOFTBELLMAN_HUGE_PAGES=0 is in the environment. Never an error: the memory serves either way.
constexpr int64_t kHugePageMinimum = int64_t{4} << 20;
bool ask_for_huge_pages(void* data, int64_t bytes);

}  // namespace softbellman::cpu
