// petmad._core: the engine for Python. Conversions only.
#include "bindings.h"

#include "petmad/build_info.h"
#include "petmad/devices.h"
#include "petmad/error.h"

PYBIND11_MODULE(_core, module) {
    module.doc() = "The compiled engine of petmad.";
    pybind11::register_exception<petmad::Error>(module, "Error", PyExc_ValueError);
    module.attr("torch_version") = petmad::built_torch_version;
    module.def("n_cuda_devices", petmad::n_cuda_devices, "Number of CUDA devices torch can use.");
    bind_types(module);
    bind_engine(module);
}
