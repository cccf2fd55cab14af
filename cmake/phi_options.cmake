# phi_options: the language, warnings and sanitizers of every target of ours.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Paths below the checkout count as relative, so that one checkout finds what another compiled. A precompiled header changes its time
  # stamp at each build; ccache has to look at its content.
  set(PHI_COMPILER_LAUNCHER
      "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" CCACHE_NOHASHDIR=1
      "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime" "${CCACHE_PROGRAM}")
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PHI_COMPILER_LAUNCHER})
endif()

add_library(phi_options INTERFACE)
target_include_directories(phi_options INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(phi_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Werror>)
target_compile_definitions(phi_options INTERFACE "PHI_VERSION=\"${PROJECT_VERSION}\"")
if(PHI_SANITIZE)
  target_compile_options(phi_options INTERFACE "-fsanitize=${PHI_SANITIZE}" -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all)
  target_link_options(phi_options INTERFACE "-fsanitize=${PHI_SANITIZE}")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(phi_options INTERFACE -Wthread-safety -Wno-sign-conversion)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(phi_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wshadow=local>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT PHI_SANITIZE)
  # GCC 12 is wrong about inlined strings and vectors (its bug 105651 and the like). Builds with sanitizers keep both.
  target_compile_options(phi_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict;-Wno-maybe-uninitialized>)
endif()
