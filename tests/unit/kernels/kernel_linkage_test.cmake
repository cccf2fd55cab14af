# Fails if an object of an instruction set (kernels_*.cc) defines a weak or unique symbol: an inline function or
# template instance that the linker merges with its namesakes from other objects, and so may hand to a CPU that lacks
# the instructions it was compiled with.
set(seen 0)
foreach(object IN LISTS OBJECTS)
  if(NOT object MATCHES "/kernels_[a-z0-9_]*\\.cc\\.o$")
    continue()
  endif()
  math(EXPR seen "${seen} + 1")
  execute_process(COMMAND "${NM}" -C --defined-only "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]*" merged "${symbols}")
  # Sanitizers mark their own per-object data this way.
  list(FILTER merged EXCLUDE REGEX " (DW\\.ref|__asan|__odr_asan|__ubsan|__sanitizer)")
  if(merged)
    message(FATAL_ERROR "${object} defines symbols that the linker may merge:\n${merged}")
  endif()
endforeach()
if(seen EQUAL 0)
  message(FATAL_ERROR "no object of an instruction set among: ${OBJECTS}")
endif()
