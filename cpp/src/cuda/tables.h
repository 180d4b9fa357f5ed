// The tables of either side; kernels.h chooses between them.
#pragma once

#include "kernels.h"

namespace petmad::cuda {

const ListKernels& gpu_list_kernels();
const ListKernels& emulated_list_kernels();
template <typename T> const NetworkKernels<T>& gpu_network_kernels();
template <typename T> const NetworkKernels<T>& emulated_network_kernels();

} // namespace petmad::cuda
