// Which table of kernels a tensor's device asks for.
#include "tables.h"

#include "petmad/error.h"

namespace petmad::cuda {
namespace {

void check_built() {
    PETMAD_CHECK(
        has_gpu_kernels(), "this petmad was built without nvcc and has no kernels for GPUs",
        "; build it where nvcc is on the PATH"
    );
}

} // namespace

bool has_gpu_kernels() {
#if defined(PETMAD_GPU_KERNELS)
    return true;
#else
    return false;
#endif
}

const ListKernels& list_kernels(bool on_gpu) {
    if (!on_gpu) {
        return emulated_list_kernels();
    }
    check_built();
    return gpu_list_kernels();
}

template <typename T> const NetworkKernels<T>& network_kernels(bool on_gpu) {
    if (!on_gpu) {
        return emulated_network_kernels<T>();
    }
    check_built();
    return gpu_network_kernels<T>();
}

#if !defined(PETMAD_GPU_KERNELS) // never called: check_built() has thrown
const ListKernels& gpu_list_kernels() { return emulated_list_kernels(); }
int64_t free_memory(int) { return 0; }
std::string identity(int) { return {}; }
template <typename T> const NetworkKernels<T>& gpu_network_kernels() {
    return emulated_network_kernels<T>();
}
#endif

template const NetworkKernels<float>& network_kernels<float>(bool);
template const NetworkKernels<double>& network_kernels<double>(bool);

} // namespace petmad::cuda
