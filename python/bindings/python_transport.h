// A Transport whose bytes travel through a Python object, so that tests can join the domains of one
// process. The object has `rank`, `n_ranks`, `all_to_all(list of bytes) -> list of bytes` and
// `exchange({peer: bytes}, {peer: n_bytes}) -> {peer: bytes}`.
#pragma once

#include <pybind11/pybind11.h>

#include "petmad/transport.h"

// hidden, as the pybind11 types it holds
class __attribute__((visibility("hidden"))) PythonTransport final : public petmad::Transport {
public:
    /// Call with the GIL, as the destructor.
    explicit PythonTransport(pybind11::object host);

    int rank() const override { return rank_; }
    int n_ranks() const override { return n_ranks_; }
    std::vector<petmad::Bytes> all_to_all(const std::vector<petmad::Bytes>& outgoing) override;
    void exchange(
        const std::vector<petmad::Message>& send, const std::vector<petmad::Message>& receive
    ) override;

private:
    pybind11::object host_;
    int rank_;
    int n_ranks_;
};
