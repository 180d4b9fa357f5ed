// What an evaluation keeps in memory, and what is computed twice where that is too much.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace petmad {

/// What the forward pass leaves for the backward pass, most first.
enum class MemoryTier {
    keep,  ///< everything that the backward pass reads
    wide,  ///< all but the MLPs' inner rows, whose first product runs twice
    layers ///< what enters and leaves each GNN layer, which runs twice, in blocks of centers
};

/// keep, wide or layers.
std::string to_string(MemoryTier tier);
/// Throws Error: another name.
MemoryTier parse_memory_tier(const std::string& name);

/// How an evaluation may use memory.
struct MemoryRequest {
    bool is_auto = true;                ///< the first tier that fits, or the last
    MemoryTier tier = MemoryTier::keep; ///< if not
    int64_t available = 0;              ///< bytes; 0: nobody knows, everything is kept
    bool on_gpu = false;                ///< what the plan is for
    int64_t bytes_per_number = 0;       ///< of the network; 0: those of the file
};

/// "auto" (what the machine has free now, divided among so many processes; the engine asks a GPU),
/// a tier, or the bytes that may be used, in MB. Throws Error: another text.
MemoryRequest parse_memory(const std::string& text, int n_processes = 1);

/// What each of so many processes may use of `free` bytes: not quite all of them.
int64_t memory_share(int64_t free, int n_processes);

/// Bytes that this process may still use: free or easily freed, within the limit of its group.
/// 0 where the system does not say.
int64_t available_memory();

/// Estimates from shapes for one evaluation.
struct MemoryPlan {
    std::vector<int64_t> bytes; ///< of each tier
    int64_t n_centers = 0;      ///< atoms evaluated here
    int64_t available = 0;
    MemoryTier tier = MemoryTier::keep; ///< the one that runs
    bool fits = true;                   ///< false where even the last needs more than there is
    bool ran_out = false;               ///< the tier before did, in this evaluation
};

/// One line for the log: needs, per atom too, what there is, the tier; and the remedy where none
/// fits.
std::string describe(const MemoryPlan& plan);

using MemoryListener = std::function<void(const MemoryPlan&)>;

} // namespace petmad
