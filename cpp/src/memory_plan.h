// Memory plans from the sizes of a network, and the plan of the evaluation that runs in this
// thread. Free of torch.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "petmad/memory_plan.h"

namespace petmad {

/// Rows of centers and edges that one block of a layer has at most on a CPU, if it is more than
/// one center: small enough for the cache, and for two threads to share.
constexpr int64_t rows_per_layer_block = 2048;

/// The same on a GPU: enough to fill it, little beside what a system that needs blocks keeps.
constexpr int64_t rows_per_gpu_block = 131072;

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

/// Fields in order, for callers that have but numbers. Throw Error: not 9, or not 3 numbers.
NetworkSizes network_sizes(const std::vector<int64_t>& numbers);
EdgeCounts edge_counts(const std::vector<int64_t>& numbers);

/// Bytes of each tier: rows kept for the backward pass, the largest step's own, the raw list.
std::vector<int64_t> bytes_on_cpu(const NetworkSizes& sizes, const EdgeCounts& counts);
std::vector<int64_t> bytes_on_gpu(const NetworkSizes& sizes, const EdgeCounts& counts);

/// The tier that was asked for, or the first that fits, or the last.
MemoryPlan make_plan(const std::vector<int64_t>& bytes, const MemoryRequest& request);

/// The tier of this thread's evaluations.
MemoryTier memory_tier();
void set_memory_tier(MemoryTier tier);

/// Another tier for this thread while it lives.
class MemoryTierGuard {
public:
    explicit MemoryTierGuard(MemoryTier tier) : before_(memory_tier()) { set_memory_tier(tier); }
    ~MemoryTierGuard() { set_memory_tier(before_); }
    MemoryTierGuard(const MemoryTierGuard&) = delete;
    MemoryTierGuard& operator=(const MemoryTierGuard&) = delete;

private:
    MemoryTier before_;
};

/// What the evaluations of this thread shall do from now on.
void set_memory_request(const MemoryRequest& request);

/// While it lives, evaluations of this thread plan for the request and tell the listener. What
/// was asked for before holds after it.
class MemoryRequestGuard {
public:
    MemoryRequestGuard(const MemoryRequest& request, MemoryListener listener);
    ~MemoryRequestGuard();
    MemoryRequestGuard(const MemoryRequestGuard&) = delete;
    MemoryRequestGuard& operator=(const MemoryRequestGuard&) = delete;

private:
    struct Before;
    std::unique_ptr<Before> before_;
};

/// The request for another attempt where `failed` ran out of memory: one tier lower. Nothing where
/// there is none, or nothing had been planned.
std::optional<MemoryRequest> lower_request(const MemoryPlan& failed, const MemoryRequest& request);

/// Bytes left of the least limit of the control groups that a process is in, and of all above them;
/// the largest number where there is none.
/// @param list file that names the groups, as /proc/self/cgroup
/// @param mount where groups are folders, as /sys/fs/cgroup
int64_t free_in_groups(const std::string& list, const std::string& mount);

/// Called by an evaluation once it knows its edges: sets the tier of what follows. `sizes` and
/// `counts` are the fields of the structs above.
void plan_evaluation(const std::vector<int64_t>& sizes, const std::vector<int64_t>& counts);

} // namespace petmad
