// The network kernels for GPUs in double.
#include "network_table.h"
#include "tables.h"

namespace petmad::cuda {

template <> const NetworkKernels<double>& gpu_network_kernels<double>() { return network_table<double>; }

} // namespace petmad::cuda
