// Which devices torch can use here.
#pragma once

#include <string>

namespace petmad {

/// Number of CUDA devices; 0 without a driver, without a CUDA build of torch, or where petmad was
/// built with PETMAD_CUDA=OFF.
int n_cuda_devices();

/// Bytes that are the same in two processes of a node where they use the same GPU (its UUID), by
/// whatever number; empty on the CPU. Throws Error: there is no such device.
std::string device_identity(const std::string& name);

} // namespace petmad
