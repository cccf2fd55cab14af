#!/usr/bin/env bash
# Whether the CUDA backend is right and fast on this machine's GPUs, in stages, those that tell most first. Writes one report, measured
# beside modelled, stage by stage: what was found stays where the rest is cut off.
#
#   tools/gpu_check.sh          builds build/cuda and checks it; without a GPU it ends in one line
#   tools/gpu_check.sh --host   the same to its end on the host harness: executed, counted, nothing measured
#     --stages LIST    of kernels,model,serve,sanitizer,bench; default: all. Each builds what it runs:
#                        kernels    the suites of single kernels, graphs and I1 of the products
#                        model      whole models and groups of ranks: Hugging Face's answers, NCCL, the scheduler
#                        serve      router and worker with a process a GPU, their tokens beside the CPU's
#                        sanitizer  compute-sanitizer on kernels, then on a model
#                        bench      steps beside the roofline, and vLLM where it is installed
#     --model DIR      a checkpoint to time; default: random weights of Phi-1's shape (on the host: of the preset tiny)
#     --suites REGEX   suites to run, by name; default: all
#     --build DIR      programs that are built there already
#     --report FILE    default: gpu_check.md in the folder of the build; logs go to a folder beside it
# Stages call functions by name, which shellcheck does not follow.
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stages=kernels,model,serve,sanitizer,bench
host='' model='' suites=. folder='' report='' logs='' scratch='' own_build='' stage='' preset='' label='' bench=''
failed=() not_run=()
# The suites of the stage model, by name; all others are kernels'.
model_suites='_(golden|model_parallel|same_answer|samples|scheduler_answer|graphs_group|device_collective|step_cost|nccl_communicator|rank_device)_test$'
# Debian's, which has what tools/setup.sh installed.
python=/usr/bin/python3

usage() {
  sed -n '5,16s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

die() {  # EXIT-CODE TEXT
  echo "gpu_check: $2" >&2
  exit "$1"
}

say() { printf '%s\n' "$@" | tee -a "$report"; }

parse() {
  local name
  while (($# > 0)); do
    case $1 in
      --host) host=yes && shift && continue ;;
      --stages=*) set -- --stages "${1#*=}" "${@:2}" ;;
      --stages | --model | --suites | --build | --report) (($# > 1)) || usage ;;
      *) usage ;;
    esac
    case $1 in
      --stages) stages=$2 ;;
      --model) model=$2 ;;
      --suites) suites=$2 ;;
      --build) folder=$2 ;;
      --report) report=$2 ;;
    esac
    shift 2
  done
  [[ -n $stages ]] || usage
  for name in ${stages//,/ }; do
    [[ $name =~ ^(kernels|model|serve|sanitizer|bench)$ ]] || usage
  done
}

require_gpu() {
  [[ -e /dev/nvidiactl || -e /dev/dxg ]] || nvidia-smi -L 2>/dev/null | grep -q . ||
    die 69 "no GPU here (no /dev/nvidiactl, and nvidia-smi lists none); tools/gpu_check.sh --host executes the same on the host"
}

# The build's packages that are not here, by the list of tools/setup.sh.
missing_packages() {
  local package
  sed -n '/^build_packages=(/,/^)/p' tools/setup.sh | sed '1d;$d' | tr -s ' ' '\n' | grep . | while read -r package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

configure() {
  local log=build/configure-$preset.log missing
  mkdir -p build
  if cmake --preset "$preset" >"$log" 2>&1; then return; fi
  grep -A 4 '^CMake Error' "$log" >&2 || tail -n 5 "$log" >&2
  missing=$(missing_packages | paste -sd ' ')
  die 70 "cmake fails, see $log${missing:+; packages that are missing, which tools/setup.sh build installs: $missing}"
}

# build TARGET...: nothing where the programs were there already.
build() {
  if [[ -z $own_build ]]; then return; fi
  if ! ninja -C "$folder" --quiet "$@" >"$logs/build-$stage.log" 2>&1; then
    failed+=("the build of $stage")
    say 'The build fails:' ''
    tail -n 20 "$logs/build-$stage.log" | sed 's/^/    /' | tee -a "$report"
    return 1
  fi
}

# Names of the suites of a stage: programs of the ctest label.
programs() {  # kernels|model
  local invert=()
  [[ $1 == model ]] || invert=(-v)
  # Of programs that are not built yet it says much.
  ctest --test-dir "$folder" -N -L "^$label\$" 2>/dev/null | sed -n 's/^ *Test *#[0-9]*: \([a-z0-9_]*_test\)$/\1/p' | grep -E "$suites" |
    grep -E "${invert[@]}" "$model_suites" || true
}

of_cache() { sed -n "s/^$1:[A-Z]*=//p" "$folder/CMakeCache.txt" 2>/dev/null || true; }

prepare() {
  if [[ -n $host ]]; then preset=ci label=cuda_host bench=host_gpu_bench; else preset=cuda label=gpu bench=gpu_bench; fi
  if [[ -z $folder ]]; then
    own_build=yes folder=build/$preset
    configure
  fi
  report=${report:-$folder/gpu_check.md}
  logs=${report%.md}-logs
  mkdir -p "$logs"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  trap 'say "" "CUT OFF in the stage $stage."; exit 1' INT TERM
}

head_of_report() {
  local nvcc
  : >"$report"
  if [[ -n $host ]]; then
    say '# gpu_check: executed on the host'
    say '' 'No GPU took part: kernels ran as fibers, libraries were stand-ins. Times below are modelled, none is measured.'
  else
    say '# gpu_check: measured on GPUs' ''
    nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader 2>/dev/null | sed 's/^/- GPU /' | tee -a "$report" || true
    nvcc=$(of_cache CMAKE_CUDA_COMPILER)
    say "- $("${nvcc:-nvcc}" --version 2>/dev/null | tail -n 1 || echo 'the version of nvcc is not known')"
    [[ -z ${CUDA_VISIBLE_DEVICES+set} ]] || say "- CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"
  fi
  say '' "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%Y-%m-%dT%H:%MZ); logs in $logs"
}

# run_stage NAME TITLE COMMAND...: where it is asked for.
run_stage() {
  local started=$SECONDS failures=${#failed[@]}
  if [[ ,$stages, != *,$1,* ]]; then return; fi
  stage=$1
  say '' "## $2" ''
  "${@:3}"
  if ((${#failed[@]} > failures)); then
    say '' "Stage $stage: FAILED (${failed[*]:failures}), $((SECONDS - started)) s."
  else
    say '' "Stage $stage: done, $((SECONDS - started)) s."
  fi
}

# cases FILE: "passed failed skipped" of a gtest report.
cases() {
  local ran failures skipped
  ran=$(grep -c 'result="completed"' "$1" || true)
  skipped=$(grep -c 'result="skipped"' "$1" || true)
  failures=$(sed -n 's/^<testsuites [^>]*failures="\([0-9]*\)".*/\1/p' "$1")
  echo "$((ran - failures)) $failures $skipped"
}

# As ctest runs it, with its own surroundings.
run_suite() {  # NAME
  local started=$SECONDS counts='0 0 0' verdict=''
  if ! GTEST_OUTPUT="xml:$scratch/$1.xml" ctest --test-dir "$folder" -V -R "^$1\$" >"$logs/$1.log" 2>&1; then
    failed+=("$1")
    verdict=' FAILED'
    tail -n 60 "$logs/$1.log" >&2
  fi
  # Of a program that skips all of its cases at once gtest says that they passed.
  if [[ -f $scratch/$1.xml ]] && ! grep -q 'no GPU: ' "$logs/$1.log"; then counts=$(cases "$scratch/$1.xml"); fi
  if [[ -z $verdict && $counts == '0 '* ]]; then
    failed+=("$1")
    verdict=" RAN NOTHING ($(grep -m 1 -o 'no GPU: .*' "$logs/$1.log" || tail -n 1 "$logs/$1.log"))"
  fi
  # shellcheck disable=SC2086
  say "$(printf '| %s%s | %s | %s | %s | %s |' "$1" "$verdict" $counts $((SECONDS - started)))"
}

run_suites() {  # kernels|model
  local name names
  mapfile -t names < <(programs "$1")
  if ((${#names[@]} == 0)); then
    say "There is no such suite, of $suites."
    [[ $suites != . ]] || failed+=("no suites of $1")
    return
  fi
  build "${names[@]}" || return 0
  say '| suite | cases passed | failed | skipped | seconds |' '|---|---|---|---|---|'
  for name in "${names[@]}"; do run_suite "$name"; done
}

# What the tests of the programs need beside them, where it is not here.
missing_for_serving() {
  local module
  command -v protoc >/dev/null || echo protobuf-compiler
  for module in grpc:python3-grpcio google.protobuf:python3-protobuf pytest:python3-pytest; do
    "$python" -c "import ${module%:*}" 2>/dev/null || echo "${module#*:}"
  done
}

run_serving() {
  local worker=phi-worker missing
  missing=$(missing_for_serving | paste -sd ' ')
  if [[ -n $missing ]]; then
    say "Not run: $missing missing, which tools/setup.sh installs."
    not_run+=(serve)
    return
  fi
  [[ -z $host ]] || worker=phi-worker-host
  build phi-router phi-worker "$worker" phictl make_checkpoint || return 0
  if ! PHI_BIN="$folder/bin" PHI_SANITIZE="$(of_cache PHI_SANITIZE)" PHI_GPU_WORKER="$worker" timeout 1800 \
    "$python" -m pytest -v -rs -p no:cacheprovider tests/e2e/test_gpu_serving.py >"$logs/serve.log" 2>&1; then
    failed+=(serving)
    tail -n 60 "$logs/serve.log" >&2
    { grep -m 1 -o 'no GPU: .*' "$logs/serve.log" || true; } | tee -a "$report"
  fi
  sed -n 's/^.*test_gpu_serving.py::\(test_[^ ]*\) \([A-Z]*\).*/- \1: \2/p' "$logs/serve.log" | tee -a "$report"
}

sanitize() {  # TOOL PROGRAM FILTER
  if timeout 1800 compute-sanitizer --tool "$1" --error-exitcode 9 "$folder/bin/$2" --gtest_filter="$3" >"$logs/$1-$2.log" 2>&1; then
    say "- $1, $2: passed"
  else
    failed+=("$1 of $2")
    say "- $1, $2: FAILED"
    tail -n 60 "$logs/$1-$2.log" >&2
  fi
}

run_sanitizers() {
  local tool name names
  if [[ -n $host ]]; then
    say "The suites above are built with: $(of_cache PHI_SANITIZE | grep . || echo none)."
    return
  fi
  if ! command -v compute-sanitizer >/dev/null; then
    say 'compute-sanitizer is not installed: not run.'
    not_run+=(compute-sanitizer)
    return
  fi
  mapfile -t names < <(programs kernels)
  build "${names[@]}" gpu_golden_test gpu_graphs_group_test || return 0
  for tool in memcheck synccheck racecheck initcheck; do
    # Processes that have to die are no bugs.
    for name in "${names[@]}"; do sanitize "$tool" "$name" '-*DeathTest*'; done
    # The other two take long, and what they find is in single kernels.
    if [[ $tool == memcheck || $tool == synccheck ]]; then
      sanitize "$tool" gpu_golden_test '*grouped_heads_of_20'
      sanitize "$tool" gpu_graphs_group_test '*1_ranks'
    fi
  done
}

# Numbers of ranks that are tried with so many GPUs.
world_sizes() {
  local ranks
  for ranks in 1 2 4 8; do
    if ((ranks < $1)); then echo "$ranks"; fi
  done
  echo "$1"
}

run_bench() {
  local ranks count arguments=()
  build "$bench" make_checkpoint || return 0
  if [[ -n $host ]]; then
    count=2 arguments=(--context 48 --rounds 3 --batches '1,4')
  else
    # By CUDA's runtime: nvidia-smi lists what this process may not have too.
    count=$("$folder/bin/$bench" --count) || count=0
  fi
  if ((count == 0)); then
    say 'CUDA finds no GPU.'
    failed+=("$bench")
    return
  fi
  if [[ -z $model ]]; then
    model=$scratch/model
    if [[ -n $host ]]; then arguments+=(--dtype bfloat16); fi
    if ! "$folder/bin/make_checkpoint" "$model" --preset "$([[ -n $host ]] && echo tiny || echo phi-1)" >"$logs/make_checkpoint.log" 2>&1; then
      say 'make_checkpoint fails:' '' "$(tail -n 5 "$logs/make_checkpoint.log" | sed 's/^/    /')"
      failed+=(make_checkpoint)
      return
    fi
  fi
  for ranks in $(world_sizes "$count"); do
    say '' "Ranks: $ranks" ''
    if ! timeout 1800 "$folder/bin/$bench" --model "$model" --ranks "$ranks" "${arguments[@]}" >"$logs/bench-$ranks.log" 2>&1; then
      failed+=("$bench at $ranks ranks")
    fi
    sed 's/^/    /' "$logs/bench-$ranks.log" | tee -a "$report"
  done
  run_vllm
}

run_vllm() {
  say '' '### vLLM' ''
  if [[ -n $host ]]; then
    say 'Not asked: it needs a GPU.'
  elif ! python3 -c 'import vllm' 2>/dev/null; then
    say 'Not installed: not run.'
    not_run+=(vLLM)
  elif timeout 1800 python3 tools/bench/vllm_decode.py --model "$model" >"$logs/vllm.log" 2>&1; then
    grep '^vllm: ' "$logs/vllm.log" | sed 's/^/    /' | tee -a "$report"
  else
    failed+=(vLLM)
    tail -n 30 "$logs/vllm.log" >&2
  fi
}

main() {
  parse "$@"
  [[ -n $host ]] || require_gpu
  prepare
  head_of_report
  run_stage kernels 'Kernels' run_suites kernels
  run_stage model 'Models and groups' run_suites model
  run_stage serve 'Serving' run_serving
  run_stage sanitizer 'Sanitizers' run_sanitizers
  run_stage bench 'Steps beside the roofline' run_bench
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
