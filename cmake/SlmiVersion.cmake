# Adds src/base/version.cpp to slmi_base: the build's facts as macros, the commit from a step that runs at each build.
find_program(SLMI_GIT git)
set(SLMI_GENERATED_DIR ${PROJECT_BINARY_DIR}/generated)
add_custom_target(slmi_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUT=${SLMI_GENERATED_DIR}/slmi_commit.inc
          -DGIT=$<$<BOOL:${SLMI_GIT}>:${SLMI_GIT}> -P ${CMAKE_CURRENT_LIST_DIR}/WriteCommit.cmake
  BYPRODUCTS ${SLMI_GENERATED_DIR}/slmi_commit.inc
  COMMENT "Looking at the commit"
  VERBATIM)

set(torch_version "")
if(SLMI_TORCH)
  set(torch_version "unknown")
  if(EXISTS ${SLMI_TORCH_PREFIX}/version.py)  # the wheel
    file(STRINGS ${SLMI_TORCH_PREFIX}/version.py line REGEX "^__version__")
    string(REGEX REPLACE ".*'(.*)'.*" "\\1" torch_version "${line}")
  elseif(EXISTS ${SLMI_TORCH_PREFIX}/build-version)  # the libtorch archive
    file(STRINGS ${SLMI_TORCH_PREFIX}/build-version torch_version LIMIT_COUNT 1)
  endif()
endif()
set(cuda_version "")
set(cuda_architectures "")
if(SLMI_WITH_CUDA)
  set(cuda_version ${CMAKE_CUDA_COMPILER_VERSION})
  string(REPLACE ";" ", " cuda_architectures "${SLMI_CUDA_ARCHITECTURES}")
endif()

set(version_source ${PROJECT_SOURCE_DIR}/src/base/version.cpp)
target_sources(slmi_base PRIVATE ${version_source})
add_dependencies(slmi_base slmi_commit)
# Of this one file only: no other is compiled anew when the commit changes.
set_source_files_properties(${version_source} TARGET_DIRECTORY slmi_base PROPERTIES
  INCLUDE_DIRECTORIES ${SLMI_GENERATED_DIR}
  COMPILE_DEFINITIONS
  "SLMI_VERSION=\"${PROJECT_VERSION}\";SLMI_COMPILER=\"${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}\";SLMI_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\";SLMI_LIBTORCH_VERSION=\"${torch_version}\";SLMI_CUDA_VERSION=\"${cuda_version}\";SLMI_CUDA_ARCHITECTURES=\"${cuda_architectures}\"")
