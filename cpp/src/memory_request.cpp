// How much memory there is, and what a user's word about it means.
#include <algorithm>
#include <charconv>
#include <fstream>

#include "petmad/error.h"
#include "petmad/memory_plan.h"

namespace petmad {
namespace {

constexpr double share_of_free = 0.9; // the rest is for the host program and the C library

/// The number that a file holds; -1 for none ("max").
int64_t number_in(const char* path) {
    std::ifstream file(path);
    int64_t number = -1;
    return file >> number ? number : -1;
}

int64_t free_in_machine() {
    std::ifstream file("/proc/meminfo");
    std::string key;
    int64_t kibibytes = 0;
    std::string unit;
    while (file >> key >> kibibytes) {
        if (key == "MemAvailable:") {
            return kibibytes * 1024;
        }
        std::getline(file, unit);
    }
    return 0;
}

/// Of a file with a name and a number per line; 0 where the name is missing.
int64_t number_of(const char* path, const std::string& name) {
    std::ifstream file(path);
    std::string key;
    int64_t number = 0;
    while (file >> key >> number) {
        if (key == name) {
            return number;
        }
    }
    return 0;
}

/// Left of the limit of this process's group; -1 where there is none.
int64_t free_in_group() {
    const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
    const int64_t used = number_in("/sys/fs/cgroup/memory.current");
    if (limit < 0 || used < 0) {
        return -1;
    }
    const int64_t cached = number_of("/sys/fs/cgroup/memory.stat", "inactive_file");
    return std::max<int64_t>(limit - used + cached, 1);
}

} // namespace

int64_t available_memory() {
    const int64_t machine = free_in_machine();
    const int64_t group = free_in_group();
    return group >= 0 && machine > 0 ? std::min(machine, group) : machine;
}

int64_t memory_share(int64_t free, int n_processes) {
    return static_cast<int64_t>(share_of_free / std::max(n_processes, 1) * free);
}

MemoryRequest parse_memory(const std::string& text, int n_processes) {
    if (text == "auto") {
        return {true, MemoryTier::keep, memory_share(available_memory(), n_processes)};
    }
    if (text == "keep" || text == "wide" || text == "layers") {
        return {false, parse_memory_tier(text), 0};
    }
    int64_t megabytes = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, megabytes);
    PETMAD_CHECK(
        result.ec == std::errc() && result.ptr == end && megabytes > 0,
        "`memory` must be auto, keep, wide, layers, or the MB that may be used, got '", text, "'"
    );
    return {true, MemoryTier::keep, megabytes * 1000000};
}

} // namespace petmad
