// Where a kernel runs.
#pragma once

namespace petmad::cuda {

struct Where {
    bool on_gpu = false;
    int device = 0;         ///< index of the GPU
    void* stream = nullptr; ///< cudaStream_t
    bool backwards = false; ///< of the emulation: items and lanes in reverse order
};

} // namespace petmad::cuda
