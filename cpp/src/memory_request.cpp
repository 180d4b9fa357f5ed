// How much memory there is, and what a user's word about it means.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>

#include "memory_plan.h"
#include "petmad/error.h"

namespace petmad {
namespace {

constexpr double share_of_free = 0.9; // the rest is for the host program and the C library

/// The number that a file holds; -1 for none ("max").
int64_t number_in(const std::string& path) {
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
int64_t number_of(const std::string& path, const std::string& name) {
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

/// Names of a group's files, by the version of control groups.
struct GroupFiles {
    std::string folder; ///< of all groups, below the mount
    const char* limit;
    const char* used;
    const char* cached; ///< of memory.stat: what the kernel gives back when asked
};

/// Left of a group's limit; the largest number where there is none.
int64_t free_in(const std::string& folder, const GroupFiles& files) {
    const int64_t limit = number_in(folder + "/" + files.limit);
    const int64_t used = number_in(folder + "/" + files.used);
    if (limit < 0 || used < 0) {
        return std::numeric_limits<int64_t>::max();
    }
    const int64_t cached = number_of(folder + "/memory.stat", files.cached);
    return std::max<int64_t>(limit - used + std::min(cached, used), 1);
}

} // namespace

int64_t free_in_groups(const std::string& list, const std::string& mount) {
    const GroupFiles unified{"", "memory.max", "memory.current", "inactive_file"};
    const GroupFiles of_memory{
        "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    };
    int64_t least = std::numeric_limits<int64_t>::max();
    std::ifstream groups(list);
    for (std::string line; std::getline(groups, line);) { // hierarchy:controllers:/path
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) {
            continue;
        }
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool is_unified = controllers == ",,";
        if (!is_unified && controllers.find(",memory,") == std::string::npos) {
            continue;
        }
        const GroupFiles& files = is_unified ? unified : of_memory;
        std::string path = line.substr(second + 1);
        while (!path.empty()) {
            path.resize(path.find_last_not_of('/') + 1);
            least = std::min(least, free_in(mount + files.folder + path, files));
            path.resize(path.empty() ? 0 : path.rfind('/') + 1);
        }
    }
    return least;
}

int64_t available_memory() {
    const int64_t machine = free_in_machine();
    const int64_t group = free_in_groups("/proc/self/cgroup", "/sys/fs/cgroup");
    return machine > 0 ? std::min(machine, group) : machine;
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
    constexpr int64_t most_megabytes = 1000000000; // a thousand TB
    int64_t megabytes = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, megabytes);
    PETMAD_CHECK(
        result.ec == std::errc() && result.ptr == end && megabytes > 0
            && megabytes <= most_megabytes,
        "`memory` must be auto, keep, wide, layers, or the MB that may be used (up to ",
        most_megabytes, "), got '", text, "'"
    );
    return {true, MemoryTier::keep, megabytes * 1000000};
}

} // namespace petmad
