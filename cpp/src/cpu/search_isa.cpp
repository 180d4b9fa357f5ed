// The search's inner loops, compiled once per instruction set: PETMAD_ISA names the table this
// file makes.
#include "search_kernel.h"

namespace petmad::cpu::PETMAD_ISA {

const SearchKernels& search_kernels() {
    static constexpr SearchKernels table{select_near_box, select_near_point};
    return table;
}

} // namespace petmad::cpu::PETMAD_ISA
