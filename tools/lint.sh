#!/usr/bin/env bash
# Checks what no compiler checks: dependency direction, sizes, format, scripts, names that must not occur, clang-tidy.
#
#   tools/lint.sh             everything; clang-tidy over the sources that differ from the main branch or are not committed
#   tools/lint.sh --all       clang-tidy over every source (minutes)
#   tools/lint.sh --fast      without clang-tidy (seconds)
#   tools/lint.sh --tidy      clang-tidy alone, as the first form does it
#   tools/lint.sh --root DIR  the tree at DIR, without clang-tidy (for the test of this script)
set -euo pipefail

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools_dir")
tidy=changed
others=1
most_changed=30
while (($# > 0)); do
  case $1 in
    --all) tidy=all ;;
    --fast) tidy=none ;;
    --tidy) others=0 ;;
    --root)
      root=$(cd "$2" && pwd)
      tidy=none
      shift
      ;;
    *)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit 64
      ;;
  esac
  shift
done
cd "$root"

failed=()
stage() {  # NAME COMMAND...: runs a check and remembers its failure
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    printf 'lint: %-14s ok (%d s)\n' "$name" $((SECONDS - start))
  else
    printf 'lint: %-14s FAILED (%d s)\n' "$name" $((SECONDS - start))
    failed+=("$name")
  fi
}

# Files of the tree by extended regular expression, as git or, outside of it, the folder has them.
tree_files() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files -co --exclude-standard
  else
    find . -type f -printf '%P\n'
  fi | { grep -E "$1" || true; } | while IFS= read -r file; do
    if [[ -f $file ]]; then printf '%s\n' "$file"; fi
  done
}

check_format() {
  tree_files '^(kernels|shard|service|tools|tests|docs)/.*\.(cc|h|cu|cuh)$' |
    xargs -r -d '\n' clang-format-14 --style=file --dry-run -Werror
}

check_scripts() {
  tree_files '\.sh$|^\.ci/run$' | xargs -r -d '\n' shellcheck -x
}

# Sources whose text differs from where this branch left the main one, or else from the last commit's parent.
changed_sources() {
  local base sources
  base=$(git merge-base HEAD origin/main 2>/dev/null || true)
  if [[ -z $base || $base == "$(git rev-parse HEAD)" ]]; then base=$(git rev-parse --verify -q HEAD~1 || true); fi
  sources=$(differing_sources "${base:-HEAD}")
  # Half a minute a source adds up: a whole branch is for --all.
  if (($(wc -l <<<"$sources") > most_changed)); then
    echo "lint: more than $most_changed sources changed; clang-tidy takes the last commit's, --all takes every one" >&2
    sources=$(differing_sources "$(git rev-parse --verify -q HEAD~1 || echo HEAD)" | head -n "$most_changed")
  fi
  printf '%s\n' "$sources"
}

differing_sources() {
  { git diff --name-only "$1" && git ls-files -o --exclude-standard; } | grep -E '^(kernels|shard|service|tools)/.*\.cc$' | sort -u || true
}

check_tidy() {
  # A build of its own: clang cannot read the precompiled headers that g++ makes.
  local database=build/tidy
  cmake --preset dev -B "$database" -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
  local sources pattern
  if [[ $tidy == all ]]; then
    sources=$(tree_files '^(kernels|shard|service|tools)/.*\.cc$')
  else
    sources=$(changed_sources)
  fi
  [[ -n $sources ]] || return 0
  pattern=$(printf '%s' "$sources" | sed 's/[.+]/\\&/g' | paste -sd'|')
  # Generated headers have to be there before anything can be parsed.
  ninja -C "$database" phi_proto >/dev/null
  local log
  log=$(mktemp)
  if run-clang-tidy-14 -quiet -p "$database" -j "$(nproc)" "/($pattern)\$" >"$log" 2>/dev/null; then
    rm -f "$log"
  else
    grep -vE '^clang-tidy|^/.*warnings? generated|^$' "$log" || true
    rm -f "$log"
    return 1
  fi
}

require() {  # PROGRAM CHECK FUNCTION: a check whose program is missing has failed
  if command -v "$1" >/dev/null; then
    stage "$2" "$3"
  else
    echo "lint: $1 is missing; tools/setup.sh installs it" >&2
    failed+=("$2")
  fi
}

if ((others)); then
  stage tree /usr/bin/python3 "$tools_dir/lint/check_tree.py" .
  require clang-format-14 clang-format check_format
  require shellcheck shellcheck check_scripts
fi
if [[ $tidy != none ]]; then require run-clang-tidy-14 clang-tidy check_tidy; fi

if ((${#failed[@]} > 0)); then
  echo "lint: failed: ${failed[*]}"
  exit 1
fi
echo "lint: all checks passed"
