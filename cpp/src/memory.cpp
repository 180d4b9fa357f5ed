// The allocator's thresholds, set once.
#include "memory.h"

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

namespace petmad {

void keep_freed_memory() {
#ifdef M_MMAP_THRESHOLD
    constexpr int largest_allowed = 32 * 1024 * 1024; // of the C library on 64 bit
    static const bool done = [] {
        mallopt(M_MMAP_THRESHOLD, largest_allowed);
        mallopt(M_TRIM_THRESHOLD, 2147483647);
        mallopt(M_TOP_PAD, 64 * 1024 * 1024);
        return true;
    }();
    (void)done;
#endif
}

} // namespace petmad
