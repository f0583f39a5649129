# Compile options of the whole house, and slmi_module / slmi_test / slmi_fuzz.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(SLMI_CCACHE ccache)
if(SLMI_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SLMI_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${SLMI_CCACHE})
endif()

add_library(slmi_options INTERFACE)
# -ffp-contract=off: bits must not depend on whether the compiler fuses a multiply and an add; a wanted fma is written as one.
target_compile_options(slmi_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Werror -ffp-contract=off>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # g++ 13 sees dangling references where there are none (GCC bug 107532), in fmt's own headers too; and compilers that
  # continuous integration does not have must not stop a user's build over a new warning.
  target_compile_options(slmi_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-dangling-reference -Wno-error>)
endif()
target_include_directories(slmi_options INTERFACE ${PROJECT_SOURCE_DIR}/include)
if(SLMI_SANITIZE OR SLMI_FUZZ)
  set(sanitizers address,undefined)
  target_link_options(slmi_options INTERFACE -fsanitize=${sanitizers})
  if(SLMI_FUZZ)
    string(APPEND sanitizers ,fuzzer-no-link)
  endif()
  target_compile_options(slmi_options INTERFACE -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()

# slmi_module(NAME SOURCES file... DEPS module... [LINK target...]): the static library slmi_NAME from src/NAME.
function(slmi_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LINK" ${ARGN})
  add_library(slmi_${name} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_DEPS PREPEND slmi_)
  target_link_libraries(slmi_${name} PUBLIC slmi_options ${ARG_DEPS} ${ARG_LINK})
endfunction()

# slmi_optimize_sanitized(TARGET...): what the tests run over millions of values is optimized under the sanitizers too, and so are
# the readers, which fuzzing runs as often as it can. The rest is not: it spends its time in the compiler (four times as long at
# -O2).
function(slmi_optimize_sanitized)
  if(SLMI_SANITIZE)
    foreach(target ${ARGN})
      target_compile_options(${target} PRIVATE -O1)
    endforeach()
  endif()
endfunction()

# Headers that all tests read, compiled once: slmi_test_pch, and slmi_torch_test_pch with libtorch's. Programs, since a library is
# compiled with other flags, and the compiler refuses headers that were.
function(slmi_test_headers name)
  cmake_parse_arguments(ARG "" "" "DEPS;HEADERS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/pch/main.cpp)
  list(TRANSFORM ARG_DEPS PREPEND slmi_)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gmock)
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
  slmi_test_options(${name})
endfunction()
function(slmi_test_options name)
  target_compile_definitions(${name} PRIVATE SLMI_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SLMI_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT SLMI_SANITIZE)  # what is tested is optimized; the tests themselves spend more time in the compiler than running
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # joined strings from a precompiled header: g++ 12 sees writes past their ends (bug 105329)
    target_compile_options(${name} PRIVATE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread)
  endif()
endfunction()
set(SLMI_TORCH_MODULES ops model decode eval train calib ceilings study comm)

# slmi_test(NAME SOURCES file... DEPS module... [LABELS label...] [SHARDS n]): one GoogleTest program. ctest knows it as a whole, or
# as n parts that run side by side: a process for each case would cost more than the cases. What each case did is in gtest/*.xml,
# which tools/test reads.
function(slmi_test name)
  cmake_parse_arguments(ARG "" "SHARDS" "SOURCES;DEPS;LABELS;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  list(TRANSFORM ARG_DEPS PREPEND slmi_)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_LINK} GTest::gtest_main)
  slmi_test_options(${name})
  set(headers slmi_test_pch)
  foreach(module ${SLMI_TORCH_MODULES})
    if(slmi_${module} IN_LIST ARG_DEPS)
      set(headers slmi_torch_test_pch)
    endif()
  endforeach()
  target_precompile_headers(${name} REUSE_FROM ${headers})
  if(NOT SLMI_TESTS)  # a tree of fuzz targets
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_SHARDS)
    set(ARG_SHARDS 1)
  endif()
  set(time_limit_s 1200)
  if(SLMI_SANITIZE AND SLMI_TORCH)  # the whole program, without optimization
    set(time_limit_s 3600)
  endif()
  math(EXPR last "${ARG_SHARDS} - 1")
  foreach(index RANGE ${last})
    set(part ${name})
    if(last GREATER 0)
      set(part ${name}.${index})
    endif()
    add_test(NAME ${part} COMMAND ${name})
    set_tests_properties(${part} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${time_limit_s}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${index};GTEST_OUTPUT=xml:${PROJECT_BINARY_DIR}/gtest/${part}.xml")
  endforeach()
endfunction()

# slmi_fuzz(NAME SOURCES file... DEPS module...): a libFuzzer target; its seeds are tests/corpus/NAME. The target `fuzzers` builds
# them all, into fuzzers/.
if(SLMI_FUZZ)
  add_custom_target(fuzzers)
endif()
function(slmi_fuzz name)
  if(NOT SLMI_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  list(TRANSFORM ARG_DEPS PREPEND slmi_)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} -fsanitize=fuzzer,address,undefined)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzzers)
  add_dependencies(fuzzers ${name})
endfunction()
