# Warnings, sanitizers and the two functions that every folder's CMakeLists.txt uses.
include_guard()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
# A folder's unit tests are its *_test.c: each becomes one cmocka program.
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)

add_library(strake_flags INTERFACE)
target_include_directories(strake_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/lib)
target_compile_definitions(strake_flags INTERFACE _GNU_SOURCE STRAKE_VERSION="${PROJECT_VERSION}")
target_link_libraries(strake_flags INTERFACE Threads::Threads)
target_compile_options(strake_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wundef -Wcast-qual -Wwrite-strings
  -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 -Wimplicit-fallthrough -Wswitch-enum
  -Wframe-larger-than=16384 -Wdouble-promotion -Wenum-conversion -fno-common -fno-strict-aliasing
  -fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
  target_compile_options(strake_flags INTERFACE
    -Wjump-misses-init -Wlogical-op -Wduplicated-cond -Wcast-align=strict -Walloca)
elseif(CMAKE_C_COMPILER_ID STREQUAL Clang)
  target_compile_options(strake_flags INTERFACE
    -Wconditional-uninitialized -Wcomma -Wassign-enum -Wunreachable-code-aggressive)
endif()
if(STRAKE_SANITIZE)
  target_compile_options(strake_flags INTERFACE -fsanitize=${STRAKE_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(strake_flags INTERFACE -fsanitize=${STRAKE_SANITIZE})
else()
  target_compile_options(strake_flags INTERFACE
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -D_FORTIFY_SOURCE=2)
endif()
if(STRAKE_FUZZ AND CMAKE_C_COMPILER_ID STREQUAL Clang)
  # Coverage of the libraries, which guides the fuzzers.
  target_compile_options(strake_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(STRAKE_MUTANTS)
  target_compile_definitions(strake_flags INTERFACE STRAKE_MUTANTS=1)
endif()

# strake_library(NAME DEPS lib ...): all *.c of the folder (and of the SUBFOLDERS) but *_test.c and main.c, as strake_NAME; each
# *_test.c becomes the unit test NAME/FILE, linked with TEST_DEPS too.
function(strake_library name)
  cmake_parse_arguments(arg "" "" "DEPS;SUBFOLDERS;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.c)
  foreach(sub ${arg_SUBFOLDERS})
    file(GLOB more CONFIGURE_DEPENDS ${sub}/*.c)
    list(APPEND sources ${more})
  endforeach()
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "(_test|/main)\\.c$")
  list(FILTER tests INCLUDE REGEX "_test\\.c$")
  if(NOT sources)
    # Still empty; the glob notices the first file.
    return()
  endif()
  add_library(strake_${name} STATIC ${sources})
  target_link_libraries(strake_${name} PUBLIC strake_flags ${arg_DEPS})
  if(NOT STRAKE_UNIT_TESTS)
    return()
  endif()
  foreach(test ${tests})
    get_filename_component(file ${test} NAME_WE)
    add_executable(${name}_${file} ${test})
    target_link_libraries(${name}_${file} PRIVATE strake_${name} ${arg_TEST_DEPS} PkgConfig::CMOCKA)
    add_test(NAME unit/${name}/${file} COMMAND ${name}_${file})
    set_tests_properties(unit/${name}/${file} PROPERTIES LABELS unit TIMEOUT 120 SKIP_RETURN_CODE 77)
  endforeach()
endfunction()

# strake_program(TARGET DEPS lib ...): main.c of the folder as the program TARGET.
function(strake_program name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/main.c)
    return()
  endif()
  add_executable(${name} main.c)
  target_link_libraries(${name} PRIVATE strake_flags ${arg_DEPS})
endfunction()
