// Names of devices to torch's devices.
#pragma once

#include <string>

#include <torch/types.h>

namespace petmad {

/// The device of "cpu", "cuda" or "cuda:N". Throws Error: another name, or no such device here.
torch::Device checked_device(const std::string& name);

} // namespace petmad
