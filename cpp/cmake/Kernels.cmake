# The kernels of network and search, compiled once per instruction set; the widest the processor knows is chosen at
# run time. Sources of each are in its own object library because only the flags differ.
function(petmad_add_kernels isa)
  add_library(petmad_kernels_${isa} OBJECT src/cpu/kernels_isa.cpp src/cpu/search_isa.cpp)
  target_compile_definitions(petmad_kernels_${isa} PRIVATE PETMAD_ISA=${isa})
  target_compile_options(
    petmad_kernels_${isa} PRIVATE -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math
                                  -fvisibility=hidden ${ARGN}
  )
  target_include_directories(petmad_kernels_${isa} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/include")
  target_link_libraries(petmad_kernels_${isa} PRIVATE petmad::warnings)
  set_target_properties(petmad_kernels_${isa} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_sources(petmad_core PRIVATE $<TARGET_OBJECTS:petmad_kernels_${isa}>)
endfunction()

petmad_add_kernels(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  petmad_add_kernels(avx2 -march=x86-64-v3)
  petmad_add_kernels(avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  target_compile_definitions(petmad_core PRIVATE PETMAD_X86_KERNELS)
  # products in bfloat16, for processors that have them beside avx512
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-mavx512bf16 PETMAD_COMPILES_BF16)
  if(PETMAD_COMPILES_BF16)
    add_library(petmad_kernels_bf16 OBJECT src/cpu/product_bf16.cpp)
    target_compile_options(
      petmad_kernels_bf16 PRIVATE -O3 -fvisibility=hidden -march=x86-64-v4 -mavx512bf16
    )
    target_include_directories(
      petmad_kernels_bf16 PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/include"
    )
    target_link_libraries(petmad_kernels_bf16 PRIVATE petmad::warnings)
    set_target_properties(petmad_kernels_bf16 PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_sources(petmad_core PRIVATE $<TARGET_OBJECTS:petmad_kernels_bf16>)
    set_source_files_properties(
      src/cpu/dispatch.cpp PROPERTIES COMPILE_DEFINITIONS PETMAD_BF16_KERNELS
    )
  endif()
endif()
