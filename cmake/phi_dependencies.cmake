# Every outside library, found once; ARCHITECTURE.md says why each is here.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(Protobuf REQUIRED)
find_package(absl REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(GTest REQUIRED)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(nlohmann_json REQUIRED IMPORTED_TARGET nlohmann_json)
pkg_check_modules(cli11 REQUIRED IMPORTED_TARGET CLI11)

# Debian's Gloo names a folder that is not there in its CMake config; its header and library are found here.
find_path(GLOO_INCLUDE_DIR gloo/context.h REQUIRED)
find_library(GLOO_LIBRARY gloo REQUIRED)
add_library(phi_gloo INTERFACE IMPORTED)
set_target_properties(phi_gloo PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${GLOO_INCLUDE_DIR}"
                                          INTERFACE_LINK_LIBRARIES "${GLOO_LIBRARY};Threads::Threads")

# oneDNN: oracle and yardstick of the products, in tests and tools/bench only. Debian's CMake config asks for OpenCL,
# which nothing here uses.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(phi_dnnl INTERFACE IMPORTED)
set_target_properties(phi_dnnl PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${DNNL_INCLUDE_DIR}"
                                          INTERFACE_LINK_LIBRARIES "${DNNL_LIBRARY}")
