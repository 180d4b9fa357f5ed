// What a step on a GPU keeps in memory, and what is computed twice where that is too much.
// Free of torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace petmad {

/// What the forward pass leaves for the backward pass, most first.
enum class MemoryTier {
    keep_all,       ///< everything that the backward pass reads
    recompute_wide, ///< all but the MLPs' inner rows, whose first product runs twice
};
constexpr int n_memory_tiers = 2;

/// keep_all or recompute_wide.
std::string to_string(MemoryTier tier);
/// Throws Error: another name.
MemoryTier parse_memory_tier(const std::string& name);

/// The tier of this process's evaluations.
MemoryTier memory_tier();
void set_memory_tier(MemoryTier tier);

struct NetworkSizes {
    int64_t d_pet = 0, d_node = 0, d_feedforward = 0, d_head = 0;
    int64_t n_heads = 0, n_gnn_layers = 0, n_attention_layers = 0;
    int64_t bytes_per_number = 4;
    bool gated = true; ///< SwiGLU: the MLP's inner rows are twice d_feedforward
};

struct EdgeCounts {
    int64_t n_centers = 0;
    int64_t n_raw = 0;  ///< edges within the cutoff and skin
    int64_t n_kept = 0; ///< after the adaptive cutoff
};

/// Estimates from shapes: rows kept for the backward pass, the largest step's own, the raw list.
struct MemoryPlan {
    std::vector<int64_t> bytes; ///< of each tier
    int64_t available = 0;
    MemoryTier tier = MemoryTier::keep_all; ///< the first that fits, or the last
    bool fits = false;
};

MemoryPlan plan_memory(const NetworkSizes& sizes, const EdgeCounts& counts, int64_t available);

/// One line for the log: needs, what there is, the tier; and the remedy where none fits.
std::string describe(const MemoryPlan& plan);

/// Fields in order, for callers that have but numbers. Throw Error: not 9, or not 3 numbers.
NetworkSizes network_sizes(const std::vector<int64_t>& numbers);
EdgeCounts edge_counts(const std::vector<int64_t>& numbers);

} // namespace petmad
