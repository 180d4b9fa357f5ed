// What TorchScript and Python may call: schemas and registration, no algorithms.
#include <tuple>

#include <torch/library.h>

#include "cpu/attention_op.h"
#include "cpu/combine_op.h"
#include "cpu/compress_op.h"
#include "cpu/cutoff_op.h"
#include "cpu/gnn_layer_op.h"
#include "cpu/kernels.h"
#include "cpu/mlp_op.h"
#include "cpu/products.h"
#include "cuda/kernels.h"
#include "halo_ops.h"
#include "memory_plan.h"
#include "petmad/edges.h"
#include "petmad/neighbor_list.h"

namespace petmad {
namespace {

using torch::Tensor;

std::tuple<Tensor, Tensor, Tensor> neighbor_list_op(
    const Tensor& positions, const Tensor& cell, const Tensor& pbc, double cutoff,
    int64_t n_centers, bool brute_force
) {
    const auto build = brute_force ? build_neighbor_list_brute_force : build_neighbor_list;
    const NeighborList list = build(positions, cell, pbc, cutoff, n_centers);
    return {list.centers, list.neighbors, list.cell_shifts};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> whole_neighbor_list_op(
    const Tensor& positions, const Tensor& cell, const Tensor& pbc, double cutoff
) {
    const NeighborList list = build_neighbor_list(positions, cell, pbc, cutoff);
    const Tensor reverse = reverse_edges_of_whole(list, positions.size(0));
    return {list.centers, list.neighbors, list.cell_shifts, reverse};
}

Tensor edge_vectors_op(
    const Tensor& positions, const Tensor& cell, const Tensor& centers, const Tensor& neighbors,
    const Tensor& cell_shifts
) {
    return edge_vectors(positions, cell, {centers, neighbors, cell_shifts});
}

Tensor reverse_index_op(const Tensor& centers, const Tensor& neighbors, const Tensor& cell_shifts) {
    return reverse_edges({centers, neighbors, cell_shifts});
}

/// Of the evaluations of this thread that no engine makes; see parse_memory().
void choose_memory(const std::string& text) { set_memory_request(parse_memory(text)); }

/// Bytes of each tier on a CPU; arguments as of plan_evaluation().
std::vector<int64_t>
memory_needs(const std::vector<int64_t>& sizes, const std::vector<int64_t>& counts) {
    return bytes_on_cpu(network_sizes(sizes), edge_counts(counts));
}

std::string current_tier() { return to_string(memory_tier()); }

} // namespace

TORCH_LIBRARY(petmad, library) {
    library.def(
        "build_neighbor_list(Tensor positions, Tensor cell, Tensor pbc, float cutoff, "
        "int n_centers=-1, bool brute_force=False) -> (Tensor, Tensor, Tensor)",
        neighbor_list_op
    );
    library.def(
        "whole_neighbor_list(Tensor positions, Tensor cell, Tensor pbc, float cutoff) -> (Tensor, "
        "Tensor, Tensor, Tensor)",
        whole_neighbor_list_op
    );
    library.def(
        "edge_vectors(Tensor positions, Tensor cell, Tensor centers, Tensor neighbors, "
        "Tensor cell_shifts) -> Tensor",
        edge_vectors_op
    );
    library.def(
        "reverse_index(Tensor centers, Tensor neighbors, Tensor cell_shifts) -> Tensor",
        reverse_index_op
    );
    library.def(
        "fold_forces(Tensor gradients, Tensor centers, Tensor neighbors, int n_atoms) -> Tensor",
        fold_forces
    );
    library.def("fold_virial(Tensor gradients, Tensor vectors) -> Tensor", fold_virial);
    library.def(
        "fold_atomic_virials(Tensor gradients, Tensor vectors, Tensor centers, Tensor neighbors, "
        "int n_atoms) -> Tensor",
        fold_atomic_virials
    );
    library.def("ghost_values(Tensor owned, int halo) -> Tensor");
    library.def("live_edges(Tensor keep, Tensor reverse_edges, int halo) -> (Tensor, Tensor)");
    library.def("reverse_edges(Tensor rows, Tensor reverse_kept, int halo) -> Tensor");
    library.def("edge_starts(Tensor centers, int n_centers) -> Tensor", cpu::edge_starts);
    library.def("instruction_sets() -> str[]", cpu::instruction_sets);
    library.def("instruction_set() -> str", cpu::instruction_set);
    library.def("product_library() -> str", cpu::product_library);
    library.def("packed_bytes() -> int", cpu::packed_bytes);
    library.def("choose_product_library(str name) -> ()", cpu::choose_product_library);
    library.def("choose_instruction_set(str name) -> ()", cpu::choose_instruction_set);
}

// The network's operators on a CPU. They record their own backward passes.
TORCH_LIBRARY_FRAGMENT(petmad, library) {
    library.def(
        "compress(Tensor geometry, Tensor messages, Tensor species, Tensor table, "
        "Tensor w_geometry, Tensor w_message, Tensor w_out, Tensor b_out) -> Tensor",
        cpu::compress
    );
    library.def(
        "combine(Tensor messages, Tensor rows, Tensor reversed, str norm, Tensor gain, "
        "Tensor bias, float epsilon, Tensor w_in, Tensor b_in, Tensor w_out, Tensor b_out) "
        "-> Tensor",
        cpu::combine
    );
    library.def(
        "gnn_layer(Tensor nodes, Tensor messages, Tensor geometry, Tensor species, "
        "Tensor log_weights, Tensor starts, Tensor[] compress, Tensor[] layers, str norm, "
        "float epsilon, bool pre_norm, bool gated, int n_heads, float scale) -> (Tensor, Tensor)",
        cpu::gnn_layer
    );
    library.def("distinct_rows(Tensor rows, Tensor indices) -> Tensor", cpu::distinct_rows);
    library.def(
        "norm_linear(Tensor x, str norm, Tensor gain, Tensor bias, float epsilon, Tensor w, "
        "Tensor b) -> Tensor",
        cpu::norm_linear
    );
    library.def(
        "attention(Tensor qkv, Tensor log_weights, Tensor starts, int n_heads, float scale) "
        "-> Tensor",
        cpu::attention
    );
    library.def(
        "mlp(Tensor x, str norm, Tensor gain, Tensor bias, float epsilon, Tensor w_in, "
        "Tensor b_in, Tensor w_out, Tensor b_out, str activation, bool residual, "
        "bool activate_output) -> Tensor",
        cpu::mlp
    );
    library.def(
        "adaptive_cutoffs_solver(Tensor distances, Tensor centers, int n_centers, float cutoff, "
        "float n_neighbors, float width, int iterations, float slope_floor) -> Tensor",
        cpu::adaptive_cutoffs_solver
    );
    library.def(
        "adaptive_cutoffs_grid(Tensor distances, Tensor centers, int n_centers, float cutoff, "
        "Tensor probes, float n_neighbors, float width, float floor) -> Tensor",
        cpu::adaptive_cutoffs_grid
    );
}

// Without schemas of ours: then TorchScript knows that they do more than return something.
TORCH_LIBRARY_FRAGMENT(petmad, library) {
    library.def("plan_evaluation", plan_evaluation);
    library.def("choose_memory", choose_memory);
    library.def("memory_needs", memory_needs);
    library.def("memory_tier", current_tier);
}

// Of GPUs alone; see cuda/registration.cpp.
TORCH_LIBRARY_FRAGMENT(petmad, library) {
    library.def("sum_by_center(Tensor rows, Tensor weights, Tensor starts, Tensor base) -> Tensor");
    library.def("has_gpu_kernels() -> bool", cuda::has_gpu_kernels);
}

// The messages of a halo exchange are staged through the host, so one implementation serves
// every device.
TORCH_LIBRARY_IMPL(petmad, CompositeExplicitAutograd, library) {
    library.impl("ghost_values", ghost_values);
    library.impl("live_edges", live_edges);
    library.impl("reverse_edges", reversed_rows);
}

TORCH_LIBRARY_IMPL(petmad, Autograd, library) {
    library.impl("ghost_values", ghost_values_autograd);
    library.impl("reverse_edges", reversed_rows_autograd);
}

} // namespace petmad
