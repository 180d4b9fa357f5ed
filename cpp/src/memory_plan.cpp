// Widths of the arrays that cuda/*_op.cpp keep for their backward passes, added up. An array
// missing here makes the plan too hopeful: change both together.
#include "memory_plan.h"

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "petmad/error.h"

namespace petmad {
namespace {

std::atomic<MemoryTier>& of_process() {
    static std::atomic<MemoryTier> tier{MemoryTier::keep_all};
    return tier;
}

/// Numbers per row that one row of edges, or of centers, keeps through all layers.
struct Widths {
    int64_t edge = 0;
    int64_t center = 0;
    int64_t largest_edge = 0; ///< at once within one operator, forward or backward
};

Widths widths_of(const NetworkSizes& s, bool keeps_wide) {
    const int64_t gate = s.gated ? 2 : 1;
    const int64_t d = s.d_pet;
    // attention of one row: its norm's input, queries, keys and values, mixed values and sums
    const int64_t attention = d + 1 + 3 * d + d + s.n_heads;
    const int64_t mlp = d + 1 + (keeps_wide ? gate * s.d_feedforward : 0);
    const int64_t center_mlp = s.d_node + 1 + (keeps_wide ? gate * 2 * s.d_node : 0);
    const int64_t combination = 2 * d + 2 + (keeps_wide ? 2 * d : 0);
    const int64_t heads = d + (keeps_wide ? s.d_head : 0) + 2 * s.d_head;
    Widths w;
    w.edge = s.n_gnn_layers * (d + s.n_attention_layers * (attention + mlp) + combination) + heads;
    w.center =
        s.n_gnn_layers * s.n_attention_layers * (attention + center_mlp) + s.d_node + 3 * s.d_head;
    // inner rows, their adjoint, the activated rows and theirs; or attention's adjoints
    w.largest_edge = std::max(2 * (gate + 1) * s.d_feedforward + 2 * d, 8 * d);
    return w;
}

int64_t bytes_of(const NetworkSizes& sizes, const EdgeCounts& n, MemoryTier tier) {
    // vector, center, neighbor, reverse; distance, cutoff and mask, with their adjoints
    constexpr int64_t per_raw_edge = 6 * 8 + 10 * 8;
    const Widths w = widths_of(sizes, tier == MemoryTier::keep_all);
    const int64_t numbers = n.n_kept * (w.edge + w.largest_edge) + n.n_centers * w.center;
    return numbers * sizes.bytes_per_number + n.n_raw * per_raw_edge;
}

std::string gibibytes(int64_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g GiB", static_cast<double>(bytes) / (1 << 30));
    return text;
}

void check_count(const std::vector<int64_t>& numbers, size_t wanted, const char* what) {
    PETMAD_CHECK(
        numbers.size() == wanted, what, " are ", wanted, " numbers, got ", numbers.size(),
        "; pass the fields of the struct in order"
    );
}

} // namespace

std::string to_string(MemoryTier tier) {
    return tier == MemoryTier::keep_all ? "keep_all" : "recompute_wide";
}

MemoryTier parse_memory_tier(const std::string& name) {
    PETMAD_CHECK(
        name == "keep_all" || name == "recompute_wide",
        "the memory tier must be keep_all or recompute_wide, got '", name, "'"
    );
    return name == "keep_all" ? MemoryTier::keep_all : MemoryTier::recompute_wide;
}

MemoryTier memory_tier() { return of_process(); }

void set_memory_tier(MemoryTier tier) { of_process() = tier; }

MemoryPlan plan_memory(const NetworkSizes& sizes, const EdgeCounts& counts, int64_t available) {
    MemoryPlan plan;
    plan.available = available;
    for (const MemoryTier tier : {MemoryTier::keep_all, MemoryTier::recompute_wide}) {
        const int64_t bytes = bytes_of(sizes, counts, tier);
        plan.bytes.push_back(bytes);
        if (!plan.fits) {
            plan.tier = tier;
            plan.fits = bytes <= available;
        }
    }
    return plan;
}

std::string describe(const MemoryPlan& plan) {
    const auto at = static_cast<size_t>(plan.tier);
    std::string text = "memory: " + gibibytes(plan.bytes[at]) + " needed, "
                       + gibibytes(plan.available) + " available, tier " + to_string(plan.tier);
    if (plan.tier != MemoryTier::keep_all) {
        text += " (" + gibibytes(plan.bytes[0]) + " to keep all)";
    }
    if (!plan.fits) {
        text += "; likely too little: use more GPUs, a smaller model or fewer atoms";
    }
    return text;
}

NetworkSizes network_sizes(const std::vector<int64_t>& numbers) {
    check_count(numbers, 9, "sizes of a network");
    return {numbers[0], numbers[1], numbers[2], numbers[3],     numbers[4],
            numbers[5], numbers[6], numbers[7], numbers[8] != 0};
}

EdgeCounts edge_counts(const std::vector<int64_t>& numbers) {
    check_count(numbers, 3, "counts of edges");
    return {numbers[0], numbers[1], numbers[2]};
}

} // namespace petmad
