# libtorch as the target slmi_torch. CUDA builds use the wheel's own package files; a CPU-only program needs only
# libtorch_cpu and libc10, and the wheel's package files stop with an error where nvcc is absent.
include(CheckLanguage)
set(SLMI_WITH_CUDA OFF)
if(NOT SLMI_CUDA STREQUAL "OFF")
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(SLMI_WITH_CUDA ON)
  elseif(SLMI_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SLMI_CUDA=ON, but no nvcc was found; install the CUDA toolkit, or set CUDACXX, or use SLMI_CUDA=AUTO")
  endif()
endif()

set(SLMI_CUDA_COMPILED ${SLMI_WITH_CUDA} CACHE INTERNAL "For scripts: whether this tree builds for the GPU")

set(SLMI_TORCH_PREFIX "" CACHE PATH "Directory of libtorch: the one that holds include/, lib/ and share/cmake/Torch")
if(NOT SLMI_TORCH_PREFIX)
  foreach(candidate ${Torch_DIR}/../../.. ${CMAKE_PREFIX_PATH} ${CMAKE_PREFIX_PATH}/../.. ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
    file(GLOB found ${candidate}/lib/libtorch_cpu.so)
    if(found)
      list(GET found 0 found)
      get_filename_component(SLMI_TORCH_PREFIX ${found}/../.. ABSOLUTE)
      break()
    endif()
  endforeach()
endif()
if(NOT EXISTS ${SLMI_TORCH_PREFIX}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "libtorch not found: run tools/quickstart, or pass -DCMAKE_PREFIX_PATH=$(python3 -c 'import torch;print(torch.utils.cmake_prefix_path)')")
endif()
message(STATUS "libtorch: ${SLMI_TORCH_PREFIX}")

if(SLMI_WITH_CUDA)
  # Turing, Ampere, Ada and Hopper, and code that later ones compile at load.
  if(NOT DEFINED TORCH_CUDA_ARCH_LIST AND DEFINED ENV{TORCH_CUDA_ARCH_LIST})
    set(TORCH_CUDA_ARCH_LIST $ENV{TORCH_CUDA_ARCH_LIST})
  elseif(NOT DEFINED TORCH_CUDA_ARCH_LIST)
    set(TORCH_CUDA_ARCH_LIST "7.5;8.0;8.6;8.9;9.0+PTX")
  endif()
  set(SLMI_CUDA_ARCHITECTURES ${TORCH_CUDA_ARCH_LIST})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # libtorch's; a static one beside it would be a second runtime
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc speaks C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  list(APPEND CMAKE_PREFIX_PATH ${SLMI_TORCH_PREFIX}/share/cmake)
  find_package(Torch REQUIRED)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # the package's -gencode flags name them
  add_library(slmi_torch INTERFACE)
  target_link_libraries(slmi_torch INTERFACE ${TORCH_LIBRARIES})
else()
  add_library(slmi_torch INTERFACE)
  target_include_directories(slmi_torch SYSTEM INTERFACE
    ${SLMI_TORCH_PREFIX}/include ${SLMI_TORCH_PREFIX}/include/torch/csrc/api/include)
  target_link_libraries(slmi_torch INTERFACE ${SLMI_TORCH_PREFIX}/lib/libtorch_cpu.so ${SLMI_TORCH_PREFIX}/lib/libc10.so)
endif()

# The wheel ships headers of its own fmt, of another version than the one we link. Ours must be found first: -I goes before
# -isystem, and a directory that the compiler searches anyway cannot be named with -I, hence the link.
get_target_property(SLMI_FMT_INCLUDE fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/first)
file(CREATE_LINK ${SLMI_FMT_INCLUDE}/fmt ${CMAKE_BINARY_DIR}/first/fmt SYMBOLIC)
target_include_directories(slmi_torch INTERFACE $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}/first>)

# The wheel's libtorch.so and libtorch_cpu.so export pieces of an old libstdc++ that they were built with, std::filesystem's
# remove_all among them, which crashes. The system's libstdc++ must be found first, so it is named first.
target_link_options(slmi_torch INTERFACE "SHELL:-Wl,--push-state,--no-as-needed -lstdc++ -Wl,--pop-state")

# at::parallel_for is a template: compiled without OpenMP it runs its body on one thread, silently. libtorch's libgomp is the
# one that the program loads, by its name.
target_compile_options(slmi_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(slmi_torch INTERFACE gomp)
