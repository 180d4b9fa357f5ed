// Edges of a domain where the network runs. A list is searched there and stays; a step sends
// positions and nothing else.
#include <algorithm>

#include "cuda/list_ops.h"
#include "domain_edges.h"
#include "petmad/neighbor_list.h"
#include "recomputed_ghosts.h"

namespace petmad {
namespace {

torch::Tensor upload(const std::vector<int64_t>& values, torch::Device device) {
    const auto n = static_cast<int64_t>(values.size());
    return torch::from_blob(const_cast<int64_t*>(values.data()), {n}, torch::kInt64)
        .to(device, /*non_blocking=*/false, /*copy=*/true);
}

class DeviceEdges : public DomainEdges {
public:
    DeviceEdges(
        torch::Device device, const Sites& sites, const double* positions, const EdgeRange& range
    );

    const StepEdges& step(const DomainView& view) override;

    const std::vector<int64_t>* step_of_raw_edge() const override { return nullptr; }

private:
    torch::Tensor bring_up(const double* positions);
    void measure(const torch::Tensor& positions);
    void match(const Sites& sites, double reach);
    void collect_outward(const Sites& sites);

    torch::Device device_;
    int64_t n_atoms_ = 0;
    int64_t n_of_owned_ = 0; ///< edges
    double cutoff_ = 0.0;
    torch::Tensor staging_; ///< [n_atoms, 3] of the host, where a device reads it at full speed
    StepEdges edges_;
};

DeviceEdges::DeviceEdges(
    torch::Device device, const Sites& sites, const double* positions, const EdgeRange& range
)
    : device_(device), n_atoms_(sites.n_atoms), cutoff_(range.cutoff) {
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    staging_ = torch::empty({n_atoms_, 3}, options.pinned_memory(device.is_cuda()));
    const torch::Tensor atoms = upload(sites.atoms, device);
    const torch::Tensor x = bring_up(positions);
    const int64_t n_centers = range.of_ghosts ? sites.size() : sites.n_owned();
    NeighborList list = cuda::build_list(
        x.index_select(0, atoms), torch::zeros({3, 3}, options), torch::zeros({3}, torch::kBool),
        range.reach, n_centers
    );
    check_crowding(list.centers.numel(), n_centers, range.reach);
    if (range.of_ghosts) {
        list = edges_within_hops(list, sites.n_owned(), sites.size(), range.n_hops);
    }
    edges_.owned_atoms = sites.owned_atoms;
    edges_.species = upload(sites.species, device);
    edges_.centers = list.centers;
    edges_.neighbors = upload(sites.nodes, device).index_select(0, list.neighbors);
    edges_.center_atoms = atoms.index_select(0, list.centers);
    edges_.neighbor_atoms = atoms.index_select(0, list.neighbors);
    edges_.incidence =
        cuda::incidence_of(edges_.center_atoms, edges_.neighbor_atoms, sites.n_atoms);
    n_of_owned_ = edges_.centers.lt(sites.n_owned()).sum().item<int64_t>();
    measure(x);
    if (range.of_ghosts) {
        edges_.reverse = cuda::reverse_list(list);
    } else {
        match(sites, range.reach);
        collect_outward(sites);
    }
}

torch::Tensor DeviceEdges::bring_up(const double* positions) {
    // the step before has waited for its results, so nothing reads the staging memory any more
    std::copy_n(positions, 3 * n_atoms_, staging_.mutable_data_ptr<double>());
    return device_.is_cpu() ? staging_ : staging_.to(device_, /*non_blocking=*/true);
}

void DeviceEdges::measure(const torch::Tensor& positions) {
    edges_.vectors = positions.index_select(0, edges_.neighbor_atoms)
                         .sub_(positions.index_select(0, edges_.center_atoms));
}

/// Finds the edges back between nodes of this rank.
void DeviceEdges::match(const Sites& sites, double reach) {
    const int64_t n_owned = sites.n_owned();
    edges_.reverse = cuda::match_list(
        edges_.centers, edges_.neighbors, edges_.vectors, n_owned, vector_tolerance
    );
    const torch::Tensor lengths = squared_lengths(edges_).sqrt();
    const torch::Tensor is_lost = edges_.reverse.lt(0)
                                      .logical_and(edges_.neighbors.lt(n_owned))
                                      .logical_and(lengths.lt(reach - rim_margin));
    const torch::Tensor lost = is_lost.nonzero();
    if (lost.numel() > 0) {
        const auto edge = lost[0].item<int64_t>();
        check_unmatched(
            edges_.center_atoms[edge].item<int64_t>(),
            sites.owned_atoms[edges_.neighbors[edge].item<int64_t>()], lengths[edge].item<double>(),
            reach
        );
    }
}

void DeviceEdges::collect_outward(const Sites& sites) {
    const torch::Tensor edges = edges_.neighbors.ge(sites.n_owned()).nonzero().flatten();
    const torch::Tensor raw = edges.cpu();
    const torch::Tensor centers = edges_.center_atoms.index_select(0, edges).cpu();
    const torch::Tensor nodes = edges_.neighbors.index_select(0, edges).cpu();
    const torch::Tensor vectors = edges_.vectors.index_select(0, edges).cpu();
    const auto* vector = vectors.const_data_ptr<double>();
    for (int64_t k = 0; k < raw.numel(); ++k, vector += 3) {
        outward_.push_back(
            {raw.const_data_ptr<int64_t>()[k],
             centers.const_data_ptr<int64_t>()[k],
             nodes.const_data_ptr<int64_t>()[k],
             {vector[0], vector[1], vector[2]}}
        );
    }
}

const StepEdges& DeviceEdges::step(const DomainView& view) {
    measure(bring_up(view.positions));
    const torch::Tensor squares = squared_lengths(edges_);
    check_all_apart(edges_, squares, view.labels);
    const torch::Tensor of_owned = squares.narrow(0, 0, n_of_owned_);
    edges_.n_within = of_owned.le(cutoff_ * cutoff_).sum().item<int64_t>();
    return edges_;
}

} // namespace

std::unique_ptr<DomainEdges> edges_on_device(
    torch::Device device, const Sites& sites, const double* positions, const EdgeRange& range
) {
    return std::make_unique<DeviceEdges>(device, sites, positions, range);
}

} // namespace petmad
