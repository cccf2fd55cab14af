#!/usr/bin/env bash
# From a fresh Debian 12 to streamed Python: installs packages, builds, starts a router and a replica of two rank processes on the
# model in deploy/models/phi-nano, and has it complete a function.
#
#   tools/quickstart.sh          stops everything at its end
#   tools/quickstart.sh --keep   leaves it serving and says how to stop it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=0
case ${1:-} in
  '') ;;
  --keep) keep=1 ;;
  *)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 64
    ;;
esac

bold='' dim='' plain=''
if [[ -t 1 ]]; then bold=$'\033[1m' dim=$'\033[2m' plain=$'\033[0m'; fi
title() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }
die() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}

# ninja's own line on a terminal; elsewhere one line each tenth.
build_quietly() {
  if [[ -t 1 ]]; then
    NINJA_STATUS='[%p, %e s] ' ninja -C build/release "$@"
    return
  fi
  local log=build/quickstart-build.log percent shown=-1
  NINJA_STATUS='%p ' ninja -C build/release "$@" | tee "$log" | while read -r percent _; do
    percent=${percent%\%}
    if [[ $percent =~ ^[0-9]+$ ]] && ((percent / 10 > shown)); then
      shown=$((percent / 10))
      echo "   $percent% built"
    fi
  done || {
    tail -n 40 "$log"
    die "the build failed; the whole of it is in $log"
  }
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# http_get HOST:PORT PATH: the body, without a client to install.
http_get() {
  local body=0 line
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}"
  printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$2" "$1" >&3
  while IFS= read -r line <&3; do
    line=${line%$'\r'}
    if ((body)); then printf '%s\n' "$line"; elif [[ -z $line ]]; then body=1; fi
  done
  exec 3>&-
}

title "packages"
tools/setup.sh build
echo "   there"

mkdir -p build
title "build (several minutes the first time)"
started=$SECONDS
cmake --preset release >build/quickstart-configure.log 2>&1 || {
  cat build/quickstart-configure.log
  die "cmake failed"
}
build_quietly phi-router phi-worker phi-serve phictl make_checkpoint
echo "   $((SECONDS - started)) s"
bin=build/release/bin

model=deploy/models/phi-nano
if [[ ! -f $model/model.safetensors ]]; then
  model=build/quickstart-model
  echo "   no model is embedded yet: this one has random weights, so its text is noise"
  "$bin/make_checkpoint" "$model" --preset tiny --overwrite --quiet
fi

title "start: a router and two ranks on $model"
listen=127.0.0.1:50051 metrics=127.0.0.1:9090
if port_taken 50051; then listen=127.0.0.1:0; fi
if port_taken 9090 || port_taken 9091; then metrics=127.0.0.1:0; fi
out=build/quickstart-serve.out log=build/quickstart-serve.log
: >"$out"
setsid nohup "$bin/phi-serve" --model "$model" --tensor_parallel 2 --listen "$listen" --metrics_listen "$metrics" \
  >"$out" 2>"$log" </dev/null &
server=$!
stop_server() {
  kill -TERM "$server" 2>/dev/null || return 0
  wait "$server" || true
}
trap stop_server EXIT
for ((tenths = 0; ; ++tenths)); do
  if grep -q 'is ready' "$out"; then break; fi
  if ! kill -0 "$server" 2>/dev/null || ((tenths > 600)); then
    tail -n 20 "$log"
    die "phi-serve did not get ready; its log is $log"
  fi
  sleep 0.1
done
address=$(awk '$1 == "gRPC" { print $2 }' "$out")
mapfile -t metrics_urls < <(grep -o 'http://[^ ,]*/metrics' "$out")
sed -n 's/^  \(gRPC\|metrics\)/   \1/p' "$out"

prompt=$'def print_prime(n):\n   """\n   Print all primes between 1 and n\n   """\n'
title "phictl generate, streaming"
if [[ ! -t 1 ]]; then printf '%s' "$prompt"; fi
"$bin/phictl" generate --address "$address" "$prompt"

title "metrics"
for url in "${metrics_urls[@]}"; do
  host=${url#http://}
  host=${host%/metrics}
  http_get "$host" /metrics |
    grep -E '^phi_(router_time_to_first_token_seconds_(sum|count)|router_requests_total|inter_token_seconds_(sum|count)|generated_tokens_total|rank_up)' |
    sed "s/^/   $dim/; s/\$/$plain/"
done

title "go on"
if ((keep)); then
  trap - EXIT
  echo "   it keeps serving; stop it with: kill $server   (its log: $log)"
  echo "   $bin/phictl generate --address $address 'def fibonacci(n):'"
  echo "   $bin/phictl info --address $address"
else
  stop_server
  trap - EXIT
  echo "   stopped. tools/quickstart.sh --keep leaves it serving; README.md shows more, docs/api.md the whole contract"
fi
