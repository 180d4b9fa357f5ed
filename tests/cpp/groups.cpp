// Usage: groups LIST MOUNT; prints the bytes left to a process of these control groups.
#include <cstdio>

#include "memory_plan.h"

int main(int n_arguments, char** arguments) {
    if (n_arguments != 3) {
        return 2;
    }
    const int64_t free = petmad::free_in_groups(arguments[1], arguments[2]);
    std::printf("%lld\n", static_cast<long long>(free));
    return 0;
}
