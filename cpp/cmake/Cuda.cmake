# Whether cuda devices are accepted, and whether the kernels are compiled for GPUs.
#
# PETMAD_GPU_KERNELS: nvcc compiles the .cu files, for the architectures below and as PTX for later ones, with the CUDA
# runtime linked statically: the library loads on machines without CUDA too, beside CPU and CUDA builds of torch, whose
# interface to devices is all the rest of the code uses. Without nvcc the kernels' emulation alone is built, and a GPU
# runs the network through plain torch.
set(PETMAD_CUDA_CPP true)
set(PETMAD_CUDA_PYTHON True)
set(PETMAD_GPU_KERNELS OFF)
set(PETMAD_CUDA_ARCHITECTURES "80-real;90-real;90-virtual" CACHE STRING "GPU architectures, as CMAKE_CUDA_ARCHITECTURES")
if(EXISTS "${WHEEL_TORCH}/lib/libtorch_cuda.so")
  set(torch_has_cuda "torch has CUDA")
else()
  set(torch_has_cuda "this torch has no CUDA")
endif()

find_program(PETMAD_NVCC nvcc PATHS /usr/local/cuda/bin NO_CACHE)
if(NOT EXISTS "${PETMAD_NVCC}")
  set(no_nvcc "no nvcc on the PATH or in /usr/local/cuda/bin")
elseif(NOT PETMAD_CUDA STREQUAL "OFF")
  set(ENV{CUDACXX} "${PETMAD_NVCC}")
  include(CheckLanguage)
  check_language(CUDA) # an nvcc that does not get along with this compiler shall not stop AUTO
  if(NOT CMAKE_CUDA_COMPILER)
    set(no_nvcc "no nvcc that works: ${PETMAD_NVCC} failed to compile a test")
  endif()
endif()
if(NOT no_nvcc AND NOT PETMAD_CUDA STREQUAL "OFF")
  set(CMAKE_CUDA_ARCHITECTURES "${PETMAD_CUDA_ARCHITECTURES}")
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(PETMAD_GPU_KERNELS ON)
endif()

if(PETMAD_CUDA STREQUAL "OFF")
  set(PETMAD_CUDA_CPP false)
  set(PETMAD_CUDA_PYTHON False)
  set(PETMAD_CUDA_SUMMARY "OFF: cuda devices are refused")
elseif(PETMAD_CUDA STREQUAL "ON" AND no_nvcc)
  message(FATAL_ERROR "PETMAD_CUDA=ON, but there is ${no_nvcc}: install the CUDA toolkit, pass -DPETMAD_NVCC=<path>, "
                      "or configure with PETMAD_CUDA=AUTO to run GPUs through plain torch")
elseif(PETMAD_CUDA STREQUAL "ON" AND NOT EXISTS "${WHEEL_TORCH}/lib/libtorch_cuda.so")
  message(FATAL_ERROR "PETMAD_CUDA=ON, but torch ${WHEEL_TORCH_VERSION} in ${WHEEL_TORCH} has no CUDA: "
                      "install a CUDA build of torch, or configure with PETMAD_CUDA=AUTO")
elseif(PETMAD_GPU_KERNELS)
  string(REPLACE ";" ", " architectures "${PETMAD_CUDA_ARCHITECTURES}")
  set(by "nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
  set(PETMAD_CUDA_SUMMARY "${PETMAD_CUDA}: kernels for ${architectures} by ${by} (${torch_has_cuda})")
else()
  set(PETMAD_CUDA_SUMMARY "${PETMAD_CUDA}: ${no_nvcc}; GPUs run through plain torch (${torch_has_cuda})")
endif()
