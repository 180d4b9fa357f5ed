// CUDA comes through torch: its library is opened only when a device is asked for, so that runs on
// the CPU stay light, and one build serves torch's CPU and CUDA wheels.
#include "devices.h"

#include <dlfcn.h>

#include <torch/cuda.h>

#include "cuda/kernels.h"
#include "petmad/build_info.h"
#include "petmad/devices.h"
#include "petmad/error.h"

namespace petmad {

int n_cuda_devices() {
    if (!built_with_cuda || dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
        return 0;
    }
    return static_cast<int>(torch::cuda::device_count());
}

torch::Device checked_device(const std::string& name) {
    if (name == "cpu") {
        return torch::kCPU;
    }
    const std::string digits = name.size() > 5 ? name.substr(5) : "0";
    const bool is_known = (name == "cuda" || name.rfind("cuda:", 0) == 0) && digits.size() < 4
                          && digits.find_first_not_of("0123456789") == std::string::npos;
    PETMAD_CHECK(is_known, "`device` must be cpu, cuda or cuda:N, got '", name, "'");
    const int n_devices = n_cuda_devices();
    const int index = std::stoi(digits);
    PETMAD_CHECK(
        index < n_devices, "`device` is '", name, "', but torch finds ", n_devices, " CUDA devices",
        built_with_cuda ? "" : " (petmad was built with PETMAD_CUDA=OFF)",
        "; check the driver and that a CUDA build of torch is installed, or use cpu"
    );
    return {torch::kCUDA, static_cast<torch::DeviceIndex>(index)};
}

std::string device_identity(const std::string& name) {
    const torch::Device device = checked_device(name);
    return device.is_cuda() ? cuda::identity(device.index()) : std::string();
}

} // namespace petmad
