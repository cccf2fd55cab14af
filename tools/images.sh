#!/usr/bin/env bash
# Builds the container images and takes them where they are needed. Uses docker, podman or buildah, whichever is there.
#
#   tools/images.sh build [IMAGE...]               phi-serve/IMAGE:VERSION; IMAGE: router, worker-cpu (both where none is named), worker-cuda
#   tools/images.sh build --prebuilt [IMAGE...]    the same with the programs of build/release/bin (PHI_IMAGE_BIN), without compiling again
#   tools/images.sh tag REGISTRY [IMAGE...]        REGISTRY/phi-serve/IMAGE:VERSION
#   tools/images.sh push REGISTRY [IMAGE...]       tags and pushes
#   tools/images.sh save FOLDER [IMAGE...]         archives that `docker load` and `ctr images import` read
#   tools/images.sh load FOLDER [IMAGE...]         takes such archives in
#   tools/images.sh kind CLUSTER [IMAGE...]        into a kind cluster
#
# PHI_CONTAINER_ENGINE names the engine, PHI_ENGINE_OPTIONS what it takes before its command, PHI_BUILD_OPTIONS what `build` takes besides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^project(.* VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
read -ra engine_options <<<"${PHI_ENGINE_OPTIONS:-}"
read -ra build_options <<<"${PHI_BUILD_OPTIONS:-}"

usage() {
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 64
}
die() {
  printf 'images: %s\n' "$*" >&2
  exit 1
}

engine=${PHI_CONTAINER_ENGINE:-}
for candidate in docker podman buildah; do
  if [[ -z $engine ]] && command -v "$candidate" >/dev/null; then engine=$candidate; fi
done

run_engine() {
  local command=$1
  shift
  "$engine" "${engine_options[@]}" "$command" "$@"
}

# The programs that an image holds, into the folder from which its Dockerfile takes them.
take_programs() {
  local image=$1 from=${PHI_IMAGE_BIN:-build/release/bin} to=build/image programs=(phi-router phi-worker phictl) program library
  if [[ $image == worker-cuda ]]; then
    to=build/image-cuda programs=(phi-worker phi-worker-cuda)
    [[ -x $from/phi-worker-cuda ]] || die "$from is built without CUDA: cmake --preset cuda && ninja -C build/cuda phi-worker"
  fi
  mkdir -p "$to"
  for program in "${programs[@]}"; do
    [[ -x $from/$program ]] || die "$from/$program is not there: cmake --preset release && ninja -C build/release"
    install -s -m 755 "$from/$program" "$to/$program"
  done
  if [[ $image == worker-cuda ]]; then
    mkdir -p "$to/lib"
    while read -r library; do cp -Lu "$library" "$to/lib/"; done < <(ldd "$from/phi-worker-cuda" | sed -n 's/.*=> \(.*\/lib\(cublas\|nccl\|cudart\)[^ ]*\) .*/\1/p')
  fi
}

# The day of the commit, so that the same sources give the same label: SOURCE_DATE_EPOCH goes before it, and outside of git it is now.
created() {
  local seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
  date --utc --date="@$seconds" +%Y-%m-%dT%H:%M:%SZ
}

build() {
  local binaries=compiled image
  if [[ ${images[0]:-} == --prebuilt ]]; then
    binaries=prebuilt
    images=("${images[@]:1}")
  fi
  default_images
  for image in "${images[@]}"; do
    if [[ $binaries == prebuilt ]]; then take_programs "$image"; fi
    # As labels of the whole image: buildah takes an instruction from its cache whatever its ARGs are.
    run_engine build "${build_options[@]}" --file deploy/docker/Dockerfile --target "$image" --build-arg "BINARIES=$binaries" \
      --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
      --label "org.opencontainers.image.created=$(created)" --tag "phi-serve/$image:$version" .
  done
}

default_images() {
  if ((${#images[@]} == 0)); then images=(router worker-cpu); fi
}

tag() {
  local image
  for image in "${images[@]}"; do run_engine tag "phi-serve/$image:$version" "$1/phi-serve/$image:$version"; done
}

push() {
  local image
  tag "$1"
  for image in "${images[@]}"; do run_engine push "$1/phi-serve/$image:$version"; done
}

save() {
  local image
  mkdir -p "$1"
  for image in "${images[@]}"; do
    rm -f "$1/$image.tar"
    # Not podman's own save: that keeps the name localhost/phi-serve/..., and nodes and docker look for what "phi-serve/..." is to them.
    case $engine in
      buildah | podman) run_engine push "phi-serve/$image:$version" "docker-archive:$1/$image.tar:phi-serve/$image:$version" ;;
      *) run_engine save --output "$1/$image.tar" "phi-serve/$image:$version" ;;
    esac
    echo "$1/$image.tar"
  done
}

load() {
  local image
  for image in "${images[@]}"; do
    case $engine in
      buildah) run_engine pull "docker-archive:$1/$image.tar" ;;
      *) run_engine load --input "$1/$image.tar" ;;
    esac
  done
}

load_into_kind() {
  local folder image
  command -v kind >/dev/null || die "kind is not installed"
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # this very folder
  trap "rm -rf '$folder'" EXIT
  save "$folder"
  for image in "${images[@]}"; do kind load image-archive --name "$1" "$folder/$image.tar"; done
}

command=${1:-}
case $command in
  build)
    images=("${@:2}")
    ;;
  tag | push | save | load | kind)
    [[ $# -ge 2 ]] || usage
    images=("${@:3}")
    default_images
    ;;
  *) usage ;;
esac
[[ -n $engine ]] || die "none of docker, podman and buildah is installed (Debian: apt-get install buildah)"
case $command in
  build) build ;;
  kind) load_into_kind "$2" ;;
  *) "$command" "$2" ;;
esac
