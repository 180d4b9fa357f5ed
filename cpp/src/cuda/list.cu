// The list kernels for GPUs. Compiled without contraction: the edges are the CPU's to the last bit.
#include "list_table.h"
#include "tables.h"

namespace petmad::cuda {

const ListKernels& gpu_list_kernels() { return list_table; }

namespace {

/// While it lives, calls are of this GPU; the one before is the thread's again after it.
class DeviceGuard {
public:
    explicit DeviceGuard(int device) {
        check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
        check_cuda(cudaSetDevice(device), "cudaSetDevice");
    }
    ~DeviceGuard() { static_cast<void>(cudaSetDevice(before_)); }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
    int before_ = 0;
};

} // namespace

int64_t free_memory(int device) {
    const DeviceGuard guard(device);
    size_t free = 0;
    size_t total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<int64_t>(free);
}

std::string identity(int device) {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    return std::string(properties.uuid.bytes, sizeof(properties.uuid.bytes));
}

} // namespace petmad::cuda
