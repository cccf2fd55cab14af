#!/usr/bin/env bash
# Whether the CUDA backend is right and fast on this machine's GPUs: the unchanged suites on the device, the kernels again
# under compute-sanitizer, groups over the GPUs that are there, then steps beside the roofline and beside vLLM where it is
# installed. Writes one report, measured beside modelled.
#
#   tools/gpu_check.sh          builds build/cuda and checks it; without a GPU it ends in one line
#   tools/gpu_check.sh --host   the same to its end on the host harness: executed, counted, nothing measured
#     --model DIR      a checkpoint to time; default: random weights of Phi-1's shape (on the host: of the preset tiny)
#     --suites REGEX   suites to run, by name; default: all
#     --build DIR      programs that are built there already
#     --report FILE    default: gpu_check.md in the folder of the build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host='' model='' suites=. folder='' report='' scratch=''
failed=() not_run=()

usage() {
  sed -n '6,11s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

die() {  # EXIT-CODE TEXT
  echo "gpu_check: $2" >&2
  exit "$1"
}

say() { printf '%s\n' "$@" | tee -a "$report"; }

parse() {
  while (($# > 0)); do
    case $1 in
      --host) host=yes && shift && continue ;;
      --model | --suites | --build | --report) (($# > 1)) || usage ;;
      *) usage ;;
    esac
    case $1 in
      --model) model=$2 ;;
      --suites) suites=$2 ;;
      --build) folder=$2 ;;
      --report) report=$2 ;;
    esac
    shift 2
  done
}

require_gpu() {
  nvidia-smi -L 2>/dev/null | grep -q . ||
    die 69 "no GPU here (nvidia-smi lists none); tools/gpu_check.sh --host executes the same on the host"
}

# Names of the suites: programs of the ctest label.
programs() { ctest --test-dir "$folder" -N -L "^$label\$" | sed -n 's/^ *Test *#[0-9]*: \([a-z_]*_test\)$/\1/p' | grep -E "$suites"; }

prepare() {
  local preset
  if [[ -n $host ]]; then preset=ci label=cuda_host bench=host_gpu_bench; else preset=cuda label=gpu bench=gpu_bench; fi
  if [[ -z $folder ]]; then
    folder=build/$preset
    mkdir -p build
    cmake --preset "$preset" >"build/configure-$preset.log" 2>&1 || die 70 "cmake fails, see build/configure-$preset.log"
    local wanted
    mapfile -t wanted < <(programs)
    ninja -C "$folder" "${wanted[@]}" "$bench" make_checkpoint || die 70 "the build fails"
  fi
  report=${report:-$folder/gpu_check.md}
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
}

head_of_report() {
  : >"$report"
  if [[ -n $host ]]; then
    say '# gpu_check: executed on the host'
    say '' 'No GPU took part: kernels ran as fibers, libraries were stand-ins. Times below are modelled, none is measured.'
  else
    say '# gpu_check: measured on GPUs' ''
    nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader | sed 's/^/- GPU /' | tee -a "$report"
    say "- $(nvcc --version 2>/dev/null | tail -n 1 || echo 'no nvcc on PATH')"
  fi
  say '' "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%Y-%m-%dT%H:%MZ)"
}

# cases FILE: "passed failed skipped" of a gtest report.
cases() {
  local ran failures skipped
  ran=$(grep -c 'result="completed"' "$1" || true)
  skipped=$(grep -c 'result="skipped"' "$1" || true)
  failures=$(sed -n 's/^<testsuites [^>]*failures="\([0-9]*\)".*/\1/p' "$1")
  echo "$((ran - failures)) $failures $skipped"
}

run_suites() {
  local name started counts verdict
  say '' '## Suites' '' '| suite | cases passed | failed | skipped | seconds |' '|---|---|---|---|---|'
  for name in $(programs); do
    started=$SECONDS verdict=''
    if ! timeout 1800 "$folder/bin/$name" --gtest_output="xml:$scratch/$name.xml" >"$scratch/$name.log" 2>&1; then
      failed+=("$name")
      verdict=' FAILED'
      tail -n 60 "$scratch/$name.log" >&2
    fi
    counts='0 0 0'
    [[ ! -f $scratch/$name.xml ]] || counts=$(cases "$scratch/$name.xml")
    if [[ -z $verdict && $counts == '0 '* ]]; then
      failed+=("$name")
      verdict=' RAN NOTHING'
    fi
    # shellcheck disable=SC2086
    say "$(printf '| %s%s | %s | %s | %s | %s |' "$name" "$verdict" $counts $((SECONDS - started)))"
  done
}

run_sanitizers() {
  local tool name
  say '' '## Sanitizers' ''
  if [[ -n $host ]]; then
    say "The suites above are built with: $(sed -n 's/^PHI_SANITIZE:STRING=//p' "$folder/CMakeCache.txt" | grep . || echo none)."
    return
  fi
  if ! command -v compute-sanitizer >/dev/null; then
    say 'compute-sanitizer is not installed: not run.'
    not_run+=(compute-sanitizer)
    return
  fi
  for tool in memcheck racecheck synccheck initcheck; do
    for name in $(programs | grep -E '^gpu_(norm|product|attention|block_copy|top_candidates)_test$'); do
      if timeout 3600 compute-sanitizer --tool "$tool" --error-exitcode 9 "$folder/bin/$name" >"$scratch/$tool.log" 2>&1; then
        say "- $tool, $name: passed"
      else
        failed+=("$tool of $name")
        say "- $tool, $name: FAILED"
        tail -n 60 "$scratch/$tool.log" >&2
      fi
    done
  done
}

run_bench() {
  local ranks count arguments=()
  say '' '## Steps beside the roofline'
  if [[ -n $host ]]; then
    count=2 arguments=(--context 48 --rounds 3 --batches '1,4')
  else
    count=$(nvidia-smi -L | grep -c .)
  fi
  if [[ -z $model ]]; then
    model=$scratch/model
    if [[ -n $host ]]; then arguments+=(--dtype bfloat16); fi
    "$folder/bin/make_checkpoint" "$model" --preset "$([[ -n $host ]] && echo tiny || echo phi-1)" >/dev/null
  fi
  for ranks in 1 2 4 8; do
    ((ranks <= count)) || break
    say '' "Ranks: $ranks" ''
    if ! "$folder/bin/$bench" --model "$model" --ranks "$ranks" "${arguments[@]}" >"$scratch/bench.log" 2>&1; then
      failed+=("$bench at $ranks ranks")
    fi
    sed 's/^/    /' "$scratch/bench.log" | tee -a "$report"
  done
}

run_vllm() {
  say '' '## vLLM' ''
  if [[ -n $host ]]; then
    say 'Not asked: it needs a GPU.'
  elif ! python3 -c 'import vllm' 2>/dev/null; then
    say 'Not installed: not run.'
    not_run+=(vLLM)
  elif python3 tools/bench/vllm_decode.py --model "$model" >"$scratch/vllm.log" 2>&1; then
    grep '^vllm: ' "$scratch/vllm.log" | sed 's/^/    /' | tee -a "$report"
  else
    failed+=(vLLM)
    tail -n 30 "$scratch/vllm.log" >&2
  fi
}

main() {
  parse "$@"
  [[ -n $host ]] || require_gpu
  prepare
  head_of_report
  run_suites
  run_sanitizers
  run_bench
  run_vllm
  say '' '## Verdict' ''
  ((${#not_run[@]} == 0)) || say "Not run: ${not_run[*]}."
  if ((${#failed[@]} > 0)); then
    say "FAILED: ${failed[*]}."
    exit 1
  fi
  say "Everything that ran passed$([[ -z $host ]] || echo ', executed on the host')."
}

main "$@"
exit
