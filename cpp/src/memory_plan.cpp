// Widths of the arrays that the operators keep for their backward passes, added up: those of
// cpu/gnn_layer.h, cpu/combine_op.cpp and cpu/mlp_rows.h, and of cuda/*_op.cpp. An array missing
// here makes the plan too hopeful: change both together.
#include "memory_plan.h"

#include <algorithm>
#include <cstdio>

#include "petmad/error.h"

namespace petmad {
namespace {

constexpr int n_tiers = 3;
const char* const tier_names[n_tiers] = {"keep", "wide", "layers"};

struct Evaluation {
    MemoryRequest request;
    MemoryListener listener;
    MemoryTier tier = MemoryTier::keep;
};

Evaluation& of_thread() {
    static thread_local Evaluation evaluation;
    return evaluation;
}

/// Numbers per row that one row of edges, or of centers, keeps through all layers.
struct Widths {
    int64_t edge = 0;
    int64_t center = 0;
    int64_t largest_edge = 0; ///< at once within one operator, forward or backward
};

/// What the transformer layers and compress of one GNN layer keep.
Widths layer_widths_on_gpu(const NetworkSizes& s, bool keeps_wide) {
    const int64_t gate = s.gated ? 2 : 1;
    const int64_t d = s.d_pet;
    // attention of one row: its norm's input, queries, keys and values, mixed values and sums
    const int64_t attention = d + 1 + 3 * d + d + s.n_heads;
    const int64_t mlp = d + 1 + (keeps_wide ? gate * s.d_feedforward : 0);
    const int64_t center_mlp = s.d_node + 1 + (keeps_wide ? gate * 2 * s.d_node : 0);
    Widths w;
    w.edge = d + s.n_attention_layers * (attention + mlp);
    w.center = s.n_attention_layers * (attention + center_mlp);
    // inner rows, their adjoint, the activated rows and theirs; or attention's adjoints
    w.largest_edge = std::max(2 * (gate + 1) * s.d_feedforward + 2 * d, 8 * d);
    return w;
}

Widths widths_on_gpu(const NetworkSizes& s, MemoryTier tier) {
    const int64_t d = s.d_pet;
    const bool keeps_wide = tier == MemoryTier::keep;
    const int64_t combination = 2 * d + 2 + (keeps_wide ? 2 * d : 0);
    Widths w;
    w.edge = s.n_gnn_layers * combination + d + (keeps_wide ? s.d_head : 0) + 2 * s.d_head;
    w.center = s.d_node + 3 * s.d_head;
    if (tier == MemoryTier::layers) {
        w.edge += (s.n_gnn_layers - 1) * d; // the first layer's messages lie in a table
        w.center += s.n_gnn_layers * s.d_node;
        // a combination's inner rows, their adjoint, the normed or activated rows and theirs
        w.largest_edge = 8 * d;
    } else {
        const Widths layer = layer_widths_on_gpu(s, keeps_wide);
        w.edge += s.n_gnn_layers * layer.edge;
        w.center += s.n_gnn_layers * layer.center;
        w.largest_edge = layer.largest_edge;
    }
    return w;
}

Widths widths_on_cpu(const NetworkSizes& s, MemoryTier tier) {
    const int64_t gate = s.gated ? 2 : 1;
    const int64_t d = s.d_pet;
    const bool keeps_wide = tier == MemoryTier::keep;
    // tokens that enter, queries, keys and values, what enters the MLP
    const int64_t attention = d + 1 + 3 * d;
    const int64_t mlp = d + (keeps_wide ? 1 + gate * s.d_feedforward : 0);
    const int64_t center_mlp = s.d_node + (keeps_wide ? 1 + gate * 2 * s.d_node : 0);
    Widths w;
    w.edge = s.n_gnn_layers * (2 * d + (keeps_wide ? 2 + 2 * d : 0)); // what messages are made of
    w.edge += d + (keeps_wide ? 2 * s.d_head : 0);                    // heads
    w.center = s.d_node + (keeps_wide ? 2 * s.d_head : 0);
    if (tier == MemoryTier::layers) {
        w.edge += (s.n_gnn_layers - 1) * d; // the first layer's messages lie in a table
        w.center += s.n_gnn_layers * s.d_node;
    } else {
        w.edge += s.n_gnn_layers * (d + s.n_attention_layers * (attention + mlp));
        w.center += s.n_gnn_layers * s.n_attention_layers * (attention + center_mlp);
    }
    // Adjoints of a message and of what it is made of; or those of a layer's attention and tokens,
    // 8 d, less what is free by then, which is too little where inner rows were not kept.
    w.largest_edge = (tier == MemoryTier::wide ? 5 : 3) * d;
    return w;
}

int64_t bytes_of(const NetworkSizes& sizes, const EdgeCounts& n, const Widths& w, int64_t raw) {
    const int64_t numbers = n.n_kept * (w.edge + w.largest_edge) + n.n_centers * w.center;
    return numbers * sizes.bytes_per_number + n.n_raw * raw;
}

/// The rows of the largest of a layer's blocks of centers.
EdgeCounts largest_block(const EdgeCounts& n, int64_t most_rows) {
    EdgeCounts block;
    block.n_kept = std::min(n.n_kept, most_rows);
    block.n_centers = n.n_kept > 0 ? n.n_centers * block.n_kept / n.n_kept : 0;
    return block;
}

/// Widths of a block of centers in a layer that runs again, with the adjoints.
Widths block_widths_on_cpu(const NetworkSizes& s) {
    NetworkSizes one = s;
    one.n_gnn_layers = 1;
    const Widths kept = widths_on_cpu(one, MemoryTier::keep);
    const Widths outside = widths_on_cpu(one, MemoryTier::layers);
    Widths w;
    w.edge = kept.edge - outside.edge - 2 * s.d_pet - 2 - 2 * s.d_head;
    w.center = kept.center - outside.center - 2 * s.d_head;
    w.largest_edge = 8 * s.d_pet;
    return w;
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

std::string to_string(MemoryTier tier) { return tier_names[static_cast<int>(tier)]; }

MemoryTier parse_memory_tier(const std::string& name) {
    for (int k = 0; k < n_tiers; ++k) {
        if (name == tier_names[k]) {
            return static_cast<MemoryTier>(k);
        }
    }
    detail::fail("the memory tier must be keep, wide or layers, got '", name, "'");
}

MemoryTier memory_tier() { return of_thread().tier; }

void set_memory_tier(MemoryTier tier) { of_thread().tier = tier; }

std::vector<int64_t> bytes_on_cpu(const NetworkSizes& sizes, const EdgeCounts& counts) {
    // Vector and five indices; distance, cutoff and its slope; adjoints of vector and distance.
    // Measured on 20,577 and 98,304 atoms of water with 181 raw edges each.
    constexpr int64_t per_raw_edge = 140;
    std::vector<int64_t> bytes;
    for (int k = 0; k < n_tiers; ++k) {
        const Widths widths = widths_on_cpu(sizes, static_cast<MemoryTier>(k));
        bytes.push_back(bytes_of(sizes, counts, widths, per_raw_edge));
    }
    const EdgeCounts block = largest_block(counts, rows_per_layer_block);
    bytes.back() += bytes_of(sizes, block, block_widths_on_cpu(sizes), 0);
    return bytes;
}

std::vector<int64_t> bytes_on_gpu(const NetworkSizes& sizes, const EdgeCounts& counts) {
    // vector, its nodes and atoms, reverse, incidence; distance, cutoff, mask, with their adjoints
    constexpr int64_t per_raw_edge = 9 * 8 + 10 * 8;
    std::vector<int64_t> bytes;
    for (int k = 0; k < n_tiers; ++k) {
        const Widths widths = widths_on_gpu(sizes, static_cast<MemoryTier>(k));
        bytes.push_back(bytes_of(sizes, counts, widths, per_raw_edge));
    }
    const EdgeCounts block = largest_block(counts, rows_per_gpu_block);
    bytes.back() += bytes_of(sizes, block, layer_widths_on_gpu(sizes, true), 0);
    return bytes;
}

MemoryPlan make_plan(const std::vector<int64_t>& bytes, const MemoryRequest& request) {
    MemoryPlan plan;
    plan.bytes = bytes;
    plan.available = request.available;
    const auto n_tiers = static_cast<int>(bytes.size());
    const auto fits = [&](int k) { return request.available == 0 || bytes[k] <= plan.available; };
    int k = request.is_auto ? 0 : std::min(static_cast<int>(request.tier), n_tiers - 1);
    while (request.is_auto && !fits(k) && k + 1 < n_tiers) {
        ++k;
    }
    plan.tier = static_cast<MemoryTier>(k);
    plan.fits = fits(k);
    return plan;
}

std::optional<MemoryRequest> lower_request(const MemoryPlan& failed, const MemoryRequest& request) {
    const int next = static_cast<int>(failed.tier) + 1;
    if (next >= static_cast<int>(failed.bytes.size())) {
        return std::nullopt;
    }
    MemoryRequest lower = request;
    lower.is_auto = false;
    lower.tier = static_cast<MemoryTier>(next);
    return lower;
}

void set_memory_request(const MemoryRequest& request) {
    of_thread() = {request, {}, request.is_auto ? MemoryTier::keep : request.tier};
}

struct MemoryRequestGuard::Before {
    Evaluation evaluation;
};

MemoryRequestGuard::MemoryRequestGuard(const MemoryRequest& request, MemoryListener listener)
    : before_(std::make_unique<Before>(Before{of_thread()})) {
    of_thread() = {request, std::move(listener), MemoryTier::keep};
}

MemoryRequestGuard::~MemoryRequestGuard() { of_thread() = std::move(before_->evaluation); }

void plan_evaluation(const std::vector<int64_t>& sizes, const std::vector<int64_t>& counts) {
    Evaluation& evaluation = of_thread();
    const EdgeCounts of = edge_counts(counts);
    const auto bytes_of_tiers = evaluation.request.on_gpu ? bytes_on_gpu : bytes_on_cpu;
    NetworkSizes network = network_sizes(sizes);
    if (evaluation.request.bytes_per_number > 0) {
        network.bytes_per_number = evaluation.request.bytes_per_number;
    }
    MemoryPlan plan = make_plan(bytes_of_tiers(network, of), evaluation.request);
    plan.n_centers = of.n_centers;
    evaluation.tier = plan.tier;
    if (evaluation.listener) {
        evaluation.listener(plan);
    }
}

std::string describe(const MemoryPlan& plan) {
    if (plan.bytes.empty()) {
        return "memory: not planned, no layers have run yet, or the file is older than plans";
    }
    const auto at = static_cast<size_t>(plan.tier);
    std::string text = "memory: " + gibibytes(plan.bytes[at]) + " needed";
    if (plan.n_centers > 0) {
        text += " (" + std::to_string(plan.bytes[at] / plan.n_centers / 1024) + " KiB per atom)";
    }
    if (plan.available > 0) {
        text += ", " + gibibytes(plan.available) + " available";
    }
    text += ", tier " + to_string(plan.tier);
    if (plan.tier != MemoryTier::keep) {
        text += " (" + gibibytes(plan.bytes[0]) + " to keep all)";
    }
    if (plan.ran_out) {
        text += ", since the tier before ran out of memory";
    }
    if (!plan.fits) {
        text += "; likely too little: use more ranks or GPUs, a smaller model or fewer atoms";
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
