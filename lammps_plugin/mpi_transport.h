// How the core's bytes travel between the ranks of one LAMMPS world.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <mpi.h>

#include "petmad/transport.h"

namespace petmad_lammps {

/// Point-to-point messages on a communicator owned by LAMMPS (never MPI_COMM_WORLD: partitions).
class MpiTransport final : public petmad::Transport {
public:
    explicit MpiTransport(MPI_Comm world);

    int rank() const override { return rank_; }
    int n_ranks() const override { return n_ranks_; }
    std::vector<petmad::Bytes> all_to_all(const std::vector<petmad::Bytes>& outgoing) override;
    void exchange(
        const std::vector<petmad::Message>& send, const std::vector<petmad::Message>& receive
    ) override;

private:
    MPI_Comm world_;
    int rank_ = 0;
    int n_ranks_ = 1;
    std::vector<MPI_Request> requests_;
};

} // namespace petmad_lammps
