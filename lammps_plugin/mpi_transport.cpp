// SPDX-License-Identifier: GPL-2.0-only
#include "mpi_transport.h"

#include <algorithm>

#include <dlfcn.h>

namespace petmad_lammps {

namespace {

constexpr int tag = 7301;
// MPI counts are int: longer messages travel in pieces, which MPI keeps in order.
constexpr int64_t largest_piece = int64_t{1} << 30;

template <typename Start>
void start_pieces(const petmad::Message& message, std::vector<MPI_Request>& requests, Start start) {
    auto* data = static_cast<char*>(message.data);
    for (int64_t done = 0; done < message.n_bytes; done += largest_piece) {
        const auto count = static_cast<int>(std::min(largest_piece, message.n_bytes - done));
        start(data + done, count, message.peer, &requests.emplace_back());
    }
}

} // namespace

bool mpi_reads_cuda_memory() {
    // Extensions that no MPI must have: looked up by name, not linked.
    if (void* query = dlsym(RTLD_DEFAULT, "MPIX_GPU_query_support")) {
        constexpr int cuda = 0; // MPIX_GPU_SUPPORT_CUDA
        int is_supported = 0;
        const int code = reinterpret_cast<int (*)(int, int*)>(query)(cuda, &is_supported);
        return code == MPI_SUCCESS && is_supported != 0;
    }
    if (void* query = dlsym(RTLD_DEFAULT, "MPIX_Query_cuda_support")) {
        return reinterpret_cast<int (*)()>(query)() == 1;
    }
    return false;
}

MpiTransport::MpiTransport(MPI_Comm world, bool reads_device_memory)
    : world_(world), reads_device_memory_(reads_device_memory) {
    MPI_Comm_rank(world_, &rank_);
    MPI_Comm_size(world_, &n_ranks_);
}

std::vector<petmad::Bytes> MpiTransport::all_to_all(const std::vector<petmad::Bytes>& outgoing) {
    std::vector<int64_t> n_out(n_ranks_);
    std::vector<int64_t> n_in(n_ranks_);
    std::transform(outgoing.begin(), outgoing.end(), n_out.begin(), [](const petmad::Bytes& bytes) {
        return static_cast<int64_t>(bytes.size());
    });
    MPI_Alltoall(n_out.data(), 1, MPI_INT64_T, n_in.data(), 1, MPI_INT64_T, world_);
    std::vector<petmad::Bytes> incoming(n_ranks_);
    std::vector<petmad::Message> send;
    std::vector<petmad::Message> receive;
    for (int peer = 0; peer < n_ranks_; ++peer) {
        incoming[peer].resize(n_in[peer]);
        send.push_back({peer, const_cast<char*>(outgoing[peer].data()), n_out[peer]});
        receive.push_back({peer, incoming[peer].data(), n_in[peer]});
    }
    exchange(send, receive);
    return incoming;
}

void MpiTransport::exchange(
    const std::vector<petmad::Message>& send, const std::vector<petmad::Message>& receive
) {
    requests_.clear();
    for (const auto& message : receive) {
        start_pieces(
            message, requests_, [&](void* data, int count, int peer, MPI_Request* request) {
                MPI_Irecv(data, count, MPI_BYTE, peer, tag, world_, request);
            }
        );
    }
    for (const auto& message : send) {
        start_pieces(
            message, requests_, [&](void* data, int count, int peer, MPI_Request* request) {
                MPI_Isend(data, count, MPI_BYTE, peer, tag, world_, request);
            }
        );
    }
    MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
}

} // namespace petmad_lammps
