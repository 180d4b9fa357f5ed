# The kernels of src/cuda: emulated always, compiled for GPUs where nvcc is; and their operators.
add_library(
  petmad_cuda_ops OBJECT
  src/cuda/attention_op.cpp # attention, sums over edges
  src/cuda/combine_op.cpp   # messages of both directions
  src/cuda/compress_op.cpp  # edge tokens
  src/cuda/cutoff_ops.cpp   # adaptive cutoffs
  src/cuda/layer_op.cpp     # a whole GNN layer of the operators here, in blocks of centers
  src/cuda/list_ops.cpp     # neighbor list, geometry, folds
  src/cuda/registration.cpp # what torch calls on CUDA tensors
  src/cuda/row_ops.cpp      # linear layers and what surrounds them
  src/cuda/row_steps.cpp    # what lies between two products
  src/cuda/tables.cpp       # GPU or emulation
  src/cuda/tensors.cpp      # streams, matrix products
)
# in one go: nearly all of their compile time is torch's headers
set_target_properties(
  petmad_cuda_ops PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0 POSITION_INDEPENDENT_CODE ON
)
target_include_directories(
  petmad_cuda_ops PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/include" "${CMAKE_CURRENT_BINARY_DIR}/generated"
)
target_link_libraries(petmad_cuda_ops PRIVATE petmad::torch petmad::warnings)
target_sources(
  petmad_core PRIVATE $<TARGET_OBJECTS:petmad_cuda_ops>
                      src/cuda/list_host.cpp    # kernels in float64, emulated
                      src/cuda/network_host.cpp # kernels of the network, emulated
)
# judged for their answers alone: fast to compile
set_source_files_properties(
  src/cuda/list_host.cpp src/cuda/network_host.cpp PROPERTIES COMPILE_OPTIONS -O1
)
if(PETMAD_GPU_KERNELS)
  add_library(
    petmad_gpu_kernels OBJECT src/cuda/list.cu src/cuda/network_double.cu src/cuda/network_float.cu
  )
  set_target_properties(petmad_gpu_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_options(petmad_gpu_kernels PRIVATE -Xcompiler=-fvisibility=hidden)
  # edges to the last bit of the CPU's: no contraction where they are decided
  set_source_files_properties(src/cuda/list.cu PROPERTIES COMPILE_OPTIONS --fmad=false)
  target_sources(petmad_core PRIVATE $<TARGET_OBJECTS:petmad_gpu_kernels>)
  target_compile_definitions(petmad_cuda_ops PRIVATE PETMAD_GPU_KERNELS)
  # by path: a target would bring include folders that the other sources have no use for
  find_package(CUDAToolkit REQUIRED)
  find_package(Threads REQUIRED)
  find_library(
    PETMAD_CUDART cudart_static HINTS "${CUDAToolkit_LIBRARY_DIR}" "${CUDAToolkit_LIBRARY_ROOT}/lib64" NO_CACHE REQUIRED
  )
  target_link_libraries(petmad_core PRIVATE "${PETMAD_CUDART}" Threads::Threads rt)
endif()
