// SPDX-License-Identifier: GPL-2.0-only
#include "node.h"

#include <algorithm>
#include <array>
#include <vector>

namespace petmad_lammps {
namespace {

/// The ranks of a node, as long as it lives.
class Node {
public:
    explicit Node(MPI_Comm world) {
        MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &ranks);
    }
    ~Node() { MPI_Comm_free(&ranks); }
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    PlaceInNode place() const {
        PlaceInNode place;
        MPI_Comm_rank(ranks, &place.rank);
        MPI_Comm_size(ranks, &place.n_ranks);
        return place;
    }

    MPI_Comm ranks = MPI_COMM_NULL;
};

} // namespace

PlaceInNode place_in_node(MPI_Comm world) { return Node(world).place(); }

int count_sharing(MPI_Comm world, const std::string& identity) {
    using Name = std::array<char, 32>;
    const Node node(world);
    Name ours{};
    std::copy_n(identity.begin(), std::min(identity.size(), ours.size()), ours.begin());
    std::vector<Name> all(node.place().n_ranks);
    constexpr int n_bytes = sizeof(Name);
    MPI_Allgather(ours.data(), n_bytes, MPI_BYTE, all.data(), n_bytes, MPI_BYTE, node.ranks);
    return static_cast<int>(std::count(all.begin(), all.end(), ours));
}

} // namespace petmad_lammps
