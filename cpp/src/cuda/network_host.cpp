// The network kernels emulated on a CPU.
#include "network_table.h"
#include "tables.h"

namespace petmad::cuda {

template <typename T> const NetworkKernels<T>& emulated_network_kernels() {
    return network_table<T>;
}

template const NetworkKernels<float>& emulated_network_kernels<float>();
template const NetworkKernels<double>& emulated_network_kernels<double>();

} // namespace petmad::cuda
