// The operators of `petmad` on CUDA tensors, and all of them again as `petmad_cuda`, which takes
// CPU tensors too and emulates the kernels: what the tests of either device call.
#include <tuple>

#include <torch/library.h>

#include "../memory_plan.h"
#include "../precision.h"
#include "list_ops.h"
#include "network_ops.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

using ListTensors = std::tuple<Tensor, Tensor, Tensor>;

ListTensors list_op(
    const Tensor& positions, const Tensor& cell, const Tensor& pbc, double cutoff,
    int64_t n_centers, bool brute_force
) {
    PETMAD_CHECK(
        !brute_force, "the brute-force list is for CPU tensors", "; move the positions with .cpu()"
    );
    const NeighborList list = build_list(positions, cell, pbc, cutoff, n_centers);
    return {list.centers, list.neighbors, list.cell_shifts};
}

Tensor vectors_op(
    const Tensor& positions, const Tensor& cell, const Tensor& centers, const Tensor& neighbors,
    const Tensor& shifts
) {
    return list_vectors(positions, cell, {centers, neighbors, shifts});
}

Tensor reverse_op(const Tensor& centers, const Tensor& neighbors, const Tensor& shifts) {
    return reverse_list({centers, neighbors, shifts});
}

Tensor fold_forces_op(
    const Tensor& gradients, const Tensor& centers, const Tensor& neighbors, int64_t n_atoms
) {
    return fold_list_forces(gradients, incidence_of(centers, neighbors, n_atoms));
}

Tensor fold_atomic_virials_op(
    const Tensor& gradients, const Tensor& vectors, const Tensor& centers, const Tensor& neighbors,
    int64_t n_atoms
) {
    return fold_list_atomic_virials(gradients, vectors, incidence_of(centers, neighbors, n_atoms));
}

ListTensors incidence_op(const Tensor& centers, const Tensor& neighbors, int64_t n_atoms) {
    const ListIncidence found = incidence_of(centers, neighbors, n_atoms);
    return {found.starts, found.incoming, found.in_starts};
}

Tensor fold_op(
    const Tensor& gradients, const Tensor& starts, const Tensor& incoming, const Tensor& in_starts
) {
    return fold_list_forces(gradients, {starts, incoming, in_starts});
}

void choose_precision(const std::string& name) { set_product_precision(parse_precision(name)); }

void choose_memory_tier(const std::string& name) { set_memory_tier(parse_memory_tier(name)); }

/// Bytes of each tier, the tier chosen for so many bytes, and the line for the log.
std::tuple<std::vector<int64_t>, std::string, std::string> plan_memory_op(
    const std::vector<int64_t>& sizes, const std::vector<int64_t>& counts, int64_t available
) {
    const auto bytes = bytes_on_gpu(network_sizes(sizes), edge_counts(counts));
    const MemoryPlan plan = make_plan(bytes, {true, MemoryTier::keep, available, true});
    return {plan.bytes, to_string(plan.tier), describe(plan)};
}

/// Evaluations of this thread shall plan for a GPU with so many bytes.
void plan_for_gpu(int64_t available) {
    set_memory_request({true, MemoryTier::keep, available, true});
}

/// Calls visit(name, function) for every operator that both namespaces have.
template <typename Visit> void for_shared(const Visit& visit) {
    visit("build_neighbor_list", list_op);
    visit("edge_vectors", vectors_op);
    visit("reverse_index", reverse_op);
    visit("fold_forces", fold_forces_op);
    visit("fold_virial", fold_list_virial);
    visit("fold_atomic_virials", fold_atomic_virials_op);
    visit("edge_starts", list_starts);
}

/// Those that record their own backward pass.
template <typename Visit> void for_differentiable(const Visit& visit) {
    visit("adaptive_cutoffs_solver", solver_cutoffs);
    visit("adaptive_cutoffs_grid", grid_cutoffs);
    visit("combine", combine);
    visit("compress", compress);
    visit("gnn_layer", gnn_layer);
    visit("norm_linear", norm_linear);
    visit("attention", attention);
    visit("mlp", mlp);
    visit("sum_by_center", sum_by_center);
}

} // namespace

TORCH_LIBRARY(petmad_cuda, library) {
    const auto define = [&](const char* name, auto* function) { library.def(name, function); };
    for_shared(define);
    for_differentiable(define);
    library.def("incidence", incidence_op);
    library.def("fold", fold_op);
    library.def("has_kernels", has_gpu_kernels);
    library.def("run_backwards", set_emulation_backwards);
    library.def("choose_precision", choose_precision);
    library.def("choose_memory_tier", choose_memory_tier);
    library.def("choose_rows_per_block", set_rows_per_block);
    library.def("plan_memory", plan_memory_op);
    library.def("plan_for_gpu", plan_for_gpu);
}

TORCH_LIBRARY_IMPL(petmad, CUDA, library) {
    const auto implement = [&](const char* name, auto* function) { library.impl(name, function); };
    for_shared(implement);
    for_differentiable(implement);
}

TORCH_LIBRARY_IMPL(petmad, AutogradCUDA, library) {
    for_differentiable([&](const char* name, auto* function) { library.impl(name, function); });
}

} // namespace petmad::cuda
