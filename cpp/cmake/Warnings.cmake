# petmad::warnings: what our own sources are held to; headers of others are SYSTEM.
add_library(petmad_warnings INTERFACE)
add_library(petmad::warnings ALIAS petmad_warnings)
target_compile_options(petmad_warnings INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor)
