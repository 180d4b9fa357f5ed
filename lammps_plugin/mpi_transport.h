// How the core's bytes travel between the ranks of one LAMMPS world.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <mpi.h>

#include "petmad/transport.h"

namespace petmad_lammps {

/// Point-to-point messages on a communicator owned by LAMMPS (never MPI_COMM_WORLD: partitions).
class MpiTransport final : public petmad::Transport {
public:
    /// `reads_device_memory`: the MPI library is GPU-aware, and messages may stay on the GPU.
    MpiTransport(MPI_Comm world, bool reads_device_memory);

    int rank() const override { return rank_; }
    int n_ranks() const override { return n_ranks_; }
    bool reads_device_memory() const override { return reads_device_memory_; }
    std::vector<petmad::Bytes> all_to_all(const std::vector<petmad::Bytes>& outgoing) override;
    void exchange(
        const std::vector<petmad::Message>& send, const std::vector<petmad::Message>& receive
    ) override;

private:
    MPI_Comm world_;
    int rank_ = 0;
    int n_ranks_ = 1;
    bool reads_device_memory_ = false;
    std::vector<MPI_Request> requests_;
};

/// Whether the MPI library of this process says that it reads the memory of CUDA devices. Asks
/// MPICH and its descendants, and Open MPI; a library without such a question counts as no.
bool mpi_reads_cuda_memory();

} // namespace petmad_lammps
