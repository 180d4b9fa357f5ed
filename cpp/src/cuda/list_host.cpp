// The list kernels emulated on a CPU.
#include "list_table.h"
#include "tables.h"

namespace petmad::cuda {

const ListKernels& emulated_list_kernels() { return list_table; }

} // namespace petmad::cuda
