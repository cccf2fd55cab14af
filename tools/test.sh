#!/usr/bin/env bash
# Everything a test needs, then every test. The last line is "N passed, N failed".
#
#   tools/test.sh          all layers (half an hour on two cores, and the time to compile)
#   tools/test.sh LABEL    one: unit, sim, parallel, golden, cuda_host, e2e, conformance, fault, fuzz, lint, tsan, release,
#                          deploy (chart, rules, dashboards, and what runs as they say)
#
# Builds: build/ci (ASan + UBSan; every layer), build/tsan (what shares memory between threads), build/fuzz (libFuzzer, seconds a
# target), build/release (the programs once more as shipped, for e2e, conformance, some of fault, and deploy).
# Stages call functions by name, which shellcheck does not follow.
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

layer=${1:-all}
case $layer in
  all | unit | sim | parallel | golden | cuda_host | e2e | conformance | fault | fuzz | lint | tsan | release | deploy) ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 64
    ;;
esac

results=$(pwd)/build/test-results/$layer
rm -rf "$results"
mkdir -p "$results"
started=$SECONDS
times=()

# stage NAME COMMAND...: runs it and takes its time; a failure without a ctest report becomes a result of that name.
stage() {
  local name=$1 start=$SECONDS verdict=''
  shift
  echo "== $name"
  mkdir -p "$results/$name"
  if ! "$@"; then
    verdict='  FAILED'
    [[ -f $results/$name/ctest.xml ]] || echo "$*" >"$results/$name/failed"
  fi
  times+=("$(printf '%-16s %5d s%s' "$name" $((SECONDS - start)) "$verdict")")
  [[ -z $verdict ]]
}

configure() {  # PRESET
  cmake --preset "$1" >"build/configure-$1.log" 2>&1 || {
    cat "build/configure-$1.log"
    return 1
  }
}

# build PRESET [TARGET...]
build() {
  local preset=$1 quiet=()
  shift
  [[ -t 1 ]] || quiet=(--quiet)
  configure "$preset" || return 1
  ninja -C "build/$preset" "${quiet[@]}" "$@"
}

# run_tests STAGE PRESET CTEST-ARGUMENTS...
run_tests() {
  local folder=$results/$1 preset=$2
  shift 2
  PHI_TEST_RESULTS="$folder" GTEST_OUTPUT="xml:$folder/" PATH="$PATH:$(pwd)/build/tools" \
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --output-junit "$folder/ctest.xml" -j "$(nproc)" "$@"
}

# What shares memory between threads without gRPC in it, CUDA's threads on the host harness among them, by program; those
# that exist are built and run.
tsan_programs='^(cuda_(host_threads|host_runtime|host_libraries|norm|product|attention|block_copy|top_candidates)|metric_page|logging|kernel_thread_pool|kv_block_pool|scheduler|step_loop|step_loop_race|plan_channel|collective|model_parallel)_test$'
tsan_stage() {
  configure tsan || return 1
  local programs
  mapfile -t programs < <(ctest --test-dir build/tsan -N -R "$tsan_programs" | sed -n 's/^ *Test *#[0-9]*: //p')
  build tsan "${programs[@]}" || return 1
  TSAN_OPTIONS="suppressions=$(pwd)/tools/testing/tsan_suppressions.txt halt_on_error=1 second_deadlock_stack=1" \
    run_tests tsan tsan -R "$tsan_programs"
}

fuzz_stage() {
  configure fuzz || return 1
  local programs
  mapfile -t programs < <(ctest --test-dir build/fuzz -N -L fuzz | sed -n 's/^ *Test *#[0-9]*: //p')
  build fuzz "${programs[@]}" || return 1
  run_tests fuzz fuzz -L fuzz
}

release_stage() {
  build release phi-router phi-worker phi-serve phictl make_checkpoint || return 1
  run_tests release release -L '^(e2e|conformance|release)$'
}

# What deploy/ holds: promises of time and rates of Prometheus's rules mean little under sanitizers.
deploy_stage() {
  build release phi-router phi-worker phi-serve phictl example_generate capacity || return 1
  run_tests deploy release -L '^deploy$'
}

tidy_stage() {
  tools/lint.sh --tidy && touch "$results/clang-tidy/passed"
}

finish() {
  local counts passed failed figures
  counts=$(/usr/bin/python3 tools/testing/count_cases.py "$results")
  for figures in "$results"/*/figures.txt; do
    if [[ -f $figures ]]; then
      echo "== figures ($(basename "$(dirname "$figures")"))"
      cat "$figures"
    fi
  done
  echo "== times"
  printf '%s\n' "${times[@]}"
  printf '%-16s %5d s\n' whole $((SECONDS - started))
  read -r passed failed <<<"$(head -n 1 <<<"$counts")"
  tail -n +2 <<<"$counts"
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed > 0))
}

wants() { [[ $layer == all || $layer == "$1" ]]; }

# A function, so that bash has read the whole file before it starts, and an edit meanwhile changes nothing.
main() {
  mkdir -p build
  stage setup tools/setup.sh || true
  case $layer in
    tsan | release | fuzz | deploy) prepare=() ;;
    lint) prepare=(configure ci) ;;
    *) prepare=(build ci) ;;
  esac
  if ((${#prepare[@]} > 0)) && stage build "${prepare[@]}"; then
    for label in unit sim parallel golden cuda_host e2e conformance fault lint; do
      if wants "$label"; then stage "$label" run_tests "$label" ci -L "^$label\$" || true; fi
    done
    if [[ $layer == all ]]; then stage fuzz-replay run_tests fuzz-replay ci -L '^fuzz$' || true; fi
    if wants lint; then stage clang-tidy tidy_stage || true; fi
  fi
  if wants fuzz; then stage fuzz fuzz_stage || true; fi
  if wants tsan; then stage tsan tsan_stage || true; fi
  if wants release; then stage release release_stage || true; fi
  if wants deploy; then stage deploy deploy_stage || true; fi
  finish
}

main
exit
