#!/usr/bin/env bash
# Fuzzes by libFuzzer (clang 14, ASan + UBSan). What it finds is left in build/fuzz/findings/TARGET and named.
#
#   tools/fuzz.sh                    every target for 60 seconds
#   tools/fuzz.sh TARGET [SECONDS]   one: safetensors, model_config, step_plan, tokenizer_json, encode, detokenize, request
#   tools/fuzz.sh --built PROGRAM TARGET SECONDS   without building (what ctest calls)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fuzz_one() {  # PROGRAM TARGET SECONDS
  local program=$1 target=$2 seconds=$3
  local found=build/fuzz/findings/$target work=build/fuzz/corpus/$target
  mkdir -p "$found" "$work" "tests/fuzz/corpus/$target"
  echo "fuzz: $target for $seconds s"
  # New inputs go to the first folder, which is not the repository's. 64 KiB reach every branch; a case gets 10 s.
  "$program" "$work" "tests/fuzz/corpus/$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$found/" -print_final_stats=1 -verbosity=0
}

if [[ ${1:-} == --built ]]; then
  fuzz_one "$2" "$3" "$4"
  exit
fi

targets=(safetensors model_config step_plan tokenizer_json encode detokenize request)
if [[ -n ${1:-} ]]; then
  if [[ " ${targets[*]} " != *" $1 "* ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 64
  fi
  targets=("$1")
fi
seconds=${2:-60}
cmake --preset fuzz >/dev/null
ninja -C build/fuzz "${targets[@]/#/fuzz_}"
for target in "${targets[@]}"; do
  fuzz_one "build/fuzz/bin/fuzz_$target" "$target" "$seconds"
done
echo "fuzz: nothing found in ${#targets[@]} targets, $seconds s each"
