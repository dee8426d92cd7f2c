// Memory in pages of 2 MiB where the system gives them on request (transparent huge pages set to `madvise`, the default of
// most distributions). A new tensor's pages are cleared and mapped one by one when they are first written; for a gradient of
// 64 MiB that is 16,384 interruptions, which take longer than the kernel that writes it, or 32.
#include "core/huge_pages.h"

#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace softbellman::cpu {
namespace {

bool wanted() {
    const char* choice = std::getenv("SOFTBELLMAN_HUGE_PAGES");
    return choice == nullptr || std::strcmp(choice, "0") != 0;
}

}  // namespace

bool ask_for_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    static const bool asking = wanted();
    static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto address = reinterpret_cast<uintptr_t>(data);
    const uintptr_t first = (address + page - 1) / page * page,
                    last = (address + static_cast<uintptr_t>(bytes)) / page * page;
    if (!asking || bytes < kHugePageMinimum || last <= first) return false;
    return madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE) == 0;
#else
    (void)data, (void)bytes, (void)&wanted;
    return false;
#endif
}

}  // namespace softbellman::cpu
