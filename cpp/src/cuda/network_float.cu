// The network kernels for GPUs in float.
#include "network_table.h"
#include "tables.h"

namespace petmad::cuda {

template <> const NetworkKernels<float>& gpu_network_kernels<float>() {
    return network_table<float>;
}

} // namespace petmad::cuda
