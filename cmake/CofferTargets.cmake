# SPDX-License-Identifier: Apache-2.0
# The build's vocabulary: a folder is a library, a program or a set of tests.
#
#   coffer_library(NAME HEADERS a.h SOURCES a.cc [USES lib...])   target coffer_NAME, alias coffer::NAME
#   coffer_program(NAME SOURCES main.cc [USES lib...] [INSTALL bin|sbin|lib/coffer])
#                                                                 executable NAME in build/.../bin
#   coffer_test(NAME SOURCES a_test.cc [USES lib...] [LABEL unit|integration] [TIMEOUT s])
#   coffer_fuzzer(NAME SOURCES a_fuzz.cc [USES lib...])           replays tests/fuzz/corpus/NAME in ctest;
#                                                                 with COFFER_FUZZ also a libFuzzer program

add_library(coffer_flags INTERFACE)
target_include_directories(coffer_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(coffer_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow
  $<$<COMPILE_LANGUAGE:CXX>:-Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor>
  -fstack-protector-strong)
if(COFFER_WERROR)
  target_compile_options(coffer_flags INTERFACE -Werror)
endif()
# gcc 12 takes texts put together with + for arrays that overlap or are too short, once it optimises (gcc
# bugs 105329 and 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(coffer_flags INTERFACE
    $<$<CONFIG:RelWithDebInfo,Release>:-Wno-array-bounds -Wno-restrict>)
endif()
if(COFFER_SANITIZE)
  target_compile_options(coffer_flags INTERFACE
    -fsanitize=${COFFER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(coffer_flags INTERFACE -fsanitize=${COFFER_SANITIZE})
endif()
target_compile_definitions(coffer_flags INTERFACE COFFER_VERSION="${PROJECT_VERSION}")

# One precompiled header for the standard library and the Result type serves every target.
add_library(coffer_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch.cc)
target_link_libraries(coffer_pch PRIVATE coffer_flags)
target_precompile_headers(coffer_pch PRIVATE
  <algorithm> <array> <chrono> <cstddef> <cstdint> <cstring> <functional> <map> <memory> <mutex>
  <optional> <span> <string> <string_view> <thread> <unordered_map> <utility> <vector>
  <tl/expected.hpp>)

# The same and GoogleMock for the tests: half of what compiling one of them costs.
if(BUILD_TESTING OR NOT DEFINED BUILD_TESTING)
  add_library(coffer_test_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/pch.cc)
  target_link_libraries(coffer_test_pch PRIVATE coffer_flags GTest::gmock)
  get_target_property(coffer_pch_headers coffer_pch PRECOMPILE_HEADERS)
  target_precompile_headers(coffer_test_pch PRIVATE ${coffer_pch_headers} <gmock/gmock.h> <gtest/gtest.h>)
endif()

function(coffer_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SOURCES;USES")
  add_library(coffer_${name} STATIC)
  add_library(coffer::${name} ALIAS coffer_${name})
  target_sources(coffer_${name} PRIVATE ${arg_SOURCES}
    PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${arg_HEADERS})
  target_link_libraries(coffer_${name} PUBLIC coffer_flags ${arg_USES})
  target_precompile_headers(coffer_${name} REUSE_FROM coffer_pch)
endfunction()

function(coffer_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "INSTALL" "SOURCES;USES")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE coffer_flags ${arg_USES})
  target_precompile_headers(${name} REUSE_FROM coffer_pch)
  if(arg_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION ${arg_INSTALL} COMPONENT agent)
  endif()
endfunction()

function(coffer_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT" "SOURCES;USES")
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE coffer_flags ${arg_USES} GTest::gmock_main)
  target_precompile_headers(${name} REUSE_FROM coffer_test_pch)
  add_test(NAME ${name} COMMAND ${name})
  # GoogleTest counts a skipped test as passed; the test command reads the XML to count them apart.
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "GTEST_OUTPUT=xml:${CMAKE_BINARY_DIR}/results/")
endfunction()

function(coffer_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES")
  set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  add_executable(${name}_replay ${arg_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
  target_link_libraries(${name}_replay PRIVATE coffer_flags ${arg_USES})
  target_precompile_headers(${name}_replay REUSE_FROM coffer_pch)
  add_test(NAME ${name}_replay COMMAND ${name}_replay ${corpus})
  set_tests_properties(${name}_replay PROPERTIES LABELS unit TIMEOUT 120)
  if(COFFER_FUZZ)
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE coffer_flags ${arg_USES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    target_precompile_headers(${name} REUSE_FROM coffer_pch)
  endif()
endfunction()
