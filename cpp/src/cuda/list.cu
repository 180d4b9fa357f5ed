// The list kernels for GPUs. Compiled without contraction: the edges are the CPU's to the last bit.
#include "list_table.h"
#include "tables.h"

namespace petmad::cuda {

const ListKernels& gpu_list_kernels() { return list_table; }

} // namespace petmad::cuda
