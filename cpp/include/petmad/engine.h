// All a host program needs: load a file, hand over atoms, receive energy, forces and virial.
// Free of torch headers, so that it can stand beside those of a host program.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "petmad/memory_plan.h"
#include "petmad/precision.h"
#include "petmad/types.h"

namespace petmad {

class Transport;

/// What networks run on: on a CPU its instruction set and matrix library, as "avx512, petmad"; on a
/// GPU "petmad", or "torch" where this build has no kernels for it.
std::string kernels_on(const std::string& device);

struct EngineOptions {
    std::string device = "cpu";            ///< "cpu", "cuda", "cuda:N"; or "emulated", for tests:
                                           ///< the lists and folds of a GPU, on the CPU
    Precision precision = Precision::file; ///< of the network's matrix products
    int n_threads = 0;                     ///< CPU threads of torch; 0 leaves them as they are
    std::string memory = "auto";           ///< see parse_memory()
    int n_processes = 1;                   ///< that share the memory of the machine, or of the GPU
    MemoryListener on_memory; ///< told the plan of every evaluation before its layers run
    bool check_golden = true; ///< evaluate the file's golden structures once after loading
};

/// An exported model, its neighbor list and its folds. One per host program and thread.
class Engine {
public:
    /// Throws Error: missing or foreign file, newer format, unknown device, a precision that the
    /// device or the file does not have, an unknown memory option, failed golden check.
    explicit Engine(const std::string& path, const EngineOptions& options = {});
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const ModelInfo& info() const;
    const Statistics& statistics() const;
    /// What the network's matrix products run in: never `file`.
    Precision precision() const;
    /// Of the last evaluation; without bytes where no layers ran, or the file is older than plans.
    const MemoryPlan& memory_plan() const;

    /// Evaluates a whole system. The result stays valid until the next call.
    /// Throws Error: non-finite positions, coinciding atoms, a species or charge the model lacks,
    /// a singular cell, a non-finite result.
    const Results& evaluate(const System& system, const Requests& requests = {});

    /// Evaluates the owned atoms of a domain. In the exchange every rank of `transport` must call,
    /// with or without atoms; without one, every ghost must be an image of an owned atom.
    /// Recomputed ghosts need no transport.
    /// Throws Error as above, when an edge between ranks has no partner, when ghosts that matter
    /// are missing, and when an atom moved by more than half of the skin under one list.
    const Results&
    evaluate(const DomainView& domain, Transport* transport, const Requests& requests = {});

    /// Largest deviation from the golden structures stored in the file, relative to their largest
    /// force and, of tensors, to their own largest entry; throws Error if it exceeds the tolerance
    /// of the dtype.
    double check_golden();

    /// Evaluations return what the next one overwrites: threads that share an engine hold this from
    /// before one until they have read its results.
    std::unique_lock<std::mutex> lock();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace petmad
