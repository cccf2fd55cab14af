# The NCCL communicator: builds with a toolkit have it, tests/cuda_host builds it against a stand-in for NCCL.
set(PHI_NCCL_SOURCES ${CMAKE_CURRENT_LIST_DIR}/nccl_communicator.cc)
