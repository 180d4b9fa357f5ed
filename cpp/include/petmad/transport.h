// How bytes travel between ranks. The host program implements it: MPI in the LAMMPS plugin,
// threads or queues in tests. The core decides what travels.
#pragma once

#include <cstdint>
#include <vector>

namespace petmad {

/// One point-to-point message; `data` is owned by the caller.
struct Message {
    int peer = 0;
    void* data = nullptr;
    int64_t n_bytes = 0;
};

using Bytes = std::vector<char>;

class Transport {
public:
    virtual int rank() const = 0;
    virtual int n_ranks() const = 0;
    /// Whether messages of a step may lie in a GPU's memory; else they must be on the host.
    virtual bool reads_device_memory() const { return false; }
    /// Collective over all ranks: outgoing[p] goes to rank p, the result holds what each rank sent
    /// here. Called when the edge list is rebuilt, never in between.
    virtual std::vector<Bytes> all_to_all(const std::vector<Bytes>& outgoing) = 0;
    /// Sends and receives at once; both sides know the sizes. Empty messages are not passed on.
    virtual void
    exchange(const std::vector<Message>& send, const std::vector<Message>& receive) = 0;

protected:
    ~Transport() = default; // held by the host program, never deleted through this
};

} // namespace petmad
