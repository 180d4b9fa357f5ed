// Which devices torch can use here.
#pragma once

namespace petmad {

/// Number of CUDA devices; 0 without a driver, without a CUDA build of torch, or where petmad was
/// built with PETMAD_CUDA=OFF.
int n_cuda_devices();

} // namespace petmad
