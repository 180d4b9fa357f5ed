// The list kernels for GPUs. Compiled without contraction: the edges are the CPU's to the last bit.
#include "list_table.h"
#include "tables.h"

namespace petmad::cuda {

const ListKernels& gpu_list_kernels() { return list_table; }

int64_t free_memory(int device) {
    size_t free = 0;
    size_t total = 0;
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<int64_t>(free);
}

} // namespace petmad::cuda
