# PHI_CUDA: whether the CUDA backend is built by nvcc. PHI_HAS_CUDA says what came of it; folders take their sources or their
# stub by it, and no source asks.
set(PHI_CUDA "AUTO" CACHE STRING "CUDA backend: AUTO (where a toolkit with cuBLASLt and NCCL is found), ON or OFF")
set_property(CACHE PHI_CUDA PROPERTY STRINGS AUTO ON OFF)

# Where toolkits install it, on PATH or not; tests/cuda_static asks it without PHI_CUDA too.
find_program(PHI_NVCC nvcc PATHS /usr/local/cuda/bin "$ENV{CUDA_PATH}/bin" "$ENV{CUDA_HOME}/bin")
mark_as_advanced(PHI_NVCC)

set(PHI_HAS_CUDA FALSE)
if(NOT PHI_CUDA STREQUAL "OFF")
  if(PHI_NVCC AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} "${PHI_NVCC}")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  find_package(CUDAToolkit 12.8 QUIET)  # the first with sm_100
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(CMAKE_CUDA_COMPILER AND CUDAToolkit_FOUND AND TARGET CUDA::cublasLt AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(PHI_HAS_CUDA TRUE)
  elseif(PHI_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PHI_CUDA=ON needs nvcc 12.8 or later, cuBLASLt and NCCL")
  endif()
endif()

if(PHI_HAS_CUDA)
  # Machine code for these, and PTX from which a driver makes it for later ones.
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;100")
  enable_language(CUDA)
  # CMake 3.25 does not know how nvcc 13 is told.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA_STANDARD 20)
  if(CCACHE_PROGRAM)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${PHI_COMPILER_LAUNCHER})
  endif()
  add_library(phi_nccl INTERFACE IMPORTED)
  set_target_properties(phi_nccl PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}"
                                            INTERFACE_LINK_LIBRARIES "${NCCL_LIBRARY}")
endif()
message(STATUS "PHI_CUDA=${PHI_CUDA}: CUDA backend ${PHI_HAS_CUDA}")
