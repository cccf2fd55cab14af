# The sources of the CUDA backend: nvcc builds them for devices, tests/cuda_host by the host's compiler.
set(PHI_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/cache.cu
  ${CMAKE_CURRENT_LIST_DIR}/cuda_backend.cc
  ${CMAKE_CURRENT_LIST_DIR}/cuda_devices.cc
  ${CMAKE_CURRENT_LIST_DIR}/decode_attention.cu
  ${CMAKE_CURRENT_LIST_DIR}/embed_norm.cu
  ${CMAKE_CURRENT_LIST_DIR}/finish_product.cu
  ${CMAKE_CURRENT_LIST_DIR}/row_attention.cu
  ${CMAKE_CURRENT_LIST_DIR}/small_product.cu
  ${CMAKE_CURRENT_LIST_DIR}/tile_attention.cu
  ${CMAKE_CURRENT_LIST_DIR}/tile_product.cu
  ${CMAKE_CURRENT_LIST_DIR}/runtime/device_memory.cc
  ${CMAKE_CURRENT_LIST_DIR}/runtime/library_product.cc
  ${CMAKE_CURRENT_LIST_DIR}/runtime/packed_weights.cc
  ${CMAKE_CURRENT_LIST_DIR}/runtime/products.cc
  ${CMAKE_CURRENT_LIST_DIR}/runtime/step_upload.cc)
