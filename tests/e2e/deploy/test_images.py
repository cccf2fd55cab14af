"""The images are built by tools/images.sh, looked at, taken to a registry and to kind, and run as compose.yaml says: read-only, as nobody,
and Generate answers.
"""

import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time

import containers
import kubelet
import phi_client
import phi_programs
import pytest
import sources
import yaml

ROOT = phi_programs.ROOT
COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
VERSION = re.search(r"VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8").partition("project(")[2]).group(1)
NAMES = ("router", "worker-cpu")
MOST_COMPRESSED = 120e6


def not_run(figure, what, why):
    figure(f"NOT RUN: {what}: {why}")
    pytest.skip(why)


def this_test():
    return os.environ["PYTEST_CURRENT_TEST"].split(" ")[0]


@pytest.fixture(scope="module")
def images(figure):
    if why := containers.unavailable():
        not_run(figure, this_test().partition("::")[0], f"images cannot be built and run here: {why}")
    start = time.monotonic()
    containers.clear()
    containers.make_base()
    based = time.monotonic()
    containers.images_sh("build", "--prebuilt", *NAMES)
    figure(f"images: base and programs in {based - start:.0f} s, {len(NAMES)} images in {time.monotonic() - based:.0f} s")
    made = {name: containers.Image(f"phi-serve/{name}:{VERSION}") for name in NAMES}
    yield made
    for image in made.values():
        image.close()
    containers.clear()


@pytest.mark.parametrize("name", NAMES)
def test_size_compressed_without_the_model(images, name, tmp_path, figure):
    layers = images[name].compressed_layers(tmp_path / "oci")
    model = sum(size for instruction, size in layers if "/opt/phi/models" in instruction)
    whole = sum(size for _, size in layers)
    figure(f"image {name}: {(whole - model) / 1e6:.1f} MB compressed and {model / 1e6:.1f} MB of model")
    assert 0 < model < whole and whole - model < MOST_COMPRESSED


@pytest.mark.parametrize("name", NAMES)
def test_configuration(images, name):
    config = images[name].config
    program = "phi-router" if name == "router" else "phi-worker"
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/bin/tini", "--", f"/usr/bin/{program}"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == VERSION and labels["licenses"] == "MIT" and labels["title"] and labels["description"]
    assert labels["base.name"] == containers.BASE
    created = datetime.datetime.strptime(labels["created"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    if (ROOT / ".git").exists():
        revision, seconds = containers.run("git", "-C", ROOT, "log", "-1", "--format=%H %ct").split()
        assert (labels["revision"], int(created.timestamp())) == (revision, int(seconds))
    else:
        assert labels["revision"] == "unknown"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_setuid_or_writable_by_all_or_left_over(images, name):
    root, found = images[name].root, []
    for folder, _, files in os.walk(root):
        for entry in (os.path.join(folder, file) for file in files):
            mode = os.lstat(entry).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH):
                found.append(entry)
    assert found == []
    assert not any((root / "var/lib/apt/lists").iterdir()) and not (root / "src").exists()
    assert (root / "usr/share/licenses/phi-serve/LICENSE").exists()
    assert (root / "usr/bin/phictl").exists() == (name == "router")


@pytest.fixture
def cluster(tmp_path, figure):
    try:
        made = kubelet.Cluster(tmp_path)
    except OSError as error:
        not_run(figure, this_test(), f"network namespaces are not permitted here: {error}")
    yield made
    made.close()


def start_services(cluster, images):
    """Router and worker by compose.yaml's own commands, each under its name on one network."""
    made = {}
    for name in ("worker", "router"):
        image = images[SERVICES[name]["image"].removeprefix("phi-serve/").removesuffix(f":{VERSION}")]
        assert SERVICES[name]["read_only"] and SERVICES[name]["cap_drop"] == ["ALL"]
        made[name] = containers.Container(cluster, image, SERVICES[name]["command"])
    for container in made.values():
        lines = ["127.0.0.1 localhost", *(f"{other.address} {name}" for name, other in made.items())]
        container.hosts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        container.start()
    return made["worker"], made["router"]


def answers(client):
    try:
        return client.generate("def is_even(n):\n    ", max_new_tokens=16)
    except Exception:  # noqa: BLE001: not ready yet
        return None


def test_both_run_and_generate_answers(images, cluster):
    worker, router = start_services(cluster, images)
    client = phi_client.Client(f"{router.address}:50051")
    try:
        phi_programs.wait_until(lambda: answers(client) or worker.process.poll() or router.process.poll(), "an answer", 90)
        assert client.generate("def is_even(n):\n    ", max_new_tokens=16).completions[0].text
    except BaseException:
        print(worker.log.read_text(errors="replace")[-3000:], router.log.read_text(errors="replace")[-3000:])
        raise
    finally:
        client.close()
    for container in (worker, router):
        status = container.status()
        assert status["Name"] == "tini" and status["NSpid"].split()[-1] == "1"
        assert status["Uid"].split() == status["Gid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
        mounts = pathlib.Path(f"/proc/{container.first_process()}/mounts").read_text(encoding="utf-8").splitlines()
        [options] = [line.split()[3].split(",") for line in mounts if line.split()[1] == "/"][-1:]
        assert "ro" in options
    for container in (router, worker):
        os.kill(container.first_process(), signal.SIGTERM)
        assert container.process.wait(60) == 0, container.log.read_text(errors="replace")[-3000:]


def test_phictl_in_the_router_image_asks_for_health(images, cluster):
    """As an exec probe or a person in the container would."""
    worker, router = start_services(cluster, images)
    router_root, command = images["router"].root, ["/usr/bin/phictl", "health"]

    def healthy():
        inside = ["ip", "netns", "exec", router.namespace, "chroot", "--userspec=65532:65532", str(router_root), *command]
        return subprocess.run(inside, capture_output=True, timeout=60, check=False).returncode == 0

    phi_programs.wait_until(healthy, "phictl health", 90)
    assert worker.process.poll() is None


def test_the_cuda_worker_finds_its_libraries_and_says_that_there_is_no_driver(images, cluster, figure):
    """As far as it goes without a GPU: all of it is in the image but the driver, which comes from the node."""
    del images
    if not (phi_programs.BIN / "phi-worker-cuda").exists():
        not_run(figure, this_test(), "this build has no CUDA backend")
    start = time.monotonic()
    containers.images_sh("build", "--prebuilt", "worker-cuda")
    image = containers.Image(f"phi-serve/worker-cuda:{VERSION}")
    figure(f"image worker-cuda: built in {time.monotonic() - start:.0f} s")
    try:
        assert image.config["User"] == "65532:65532" and "NVIDIA_VISIBLE_DEVICES=all" in image.config["Env"]
        inside = ["chroot", str(image.root), "/usr/bin/env", "-i", *image.config["Env"], "ldd", "/usr/bin/phi-worker-cuda"]
        libraries = containers.run(*inside)
        assert "not found" not in libraries and "/usr/local/lib/libcublasLt" in libraries and "/usr/local/lib/libnccl" in libraries
        container = containers.Container(cluster, image, ["--model=/opt/phi/models/phi-nano", "--device=cuda"])
        code = container.start().wait(60)
        assert (code, "no NVIDIA driver" in container.log.read_text(errors="replace")) == (64, True), container.log.read_text(errors="replace")
    finally:
        image.close()


@pytest.fixture
def elsewhere():
    with contextlib.closing(containers.Elsewhere()) as made:
        yield made


def test_save_gives_an_archive_that_load_takes(images, tmp_path):
    del images
    containers.images_sh("save", tmp_path, "router")
    with tarfile.open(tmp_path / "router.tar") as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
    hosts = [tag.removesuffix(f"/phi-serve/router:{VERSION}") for tag in entry["RepoTags"]]
    assert set(hosts) - {"localhost", *entry["RepoTags"]}, "nodes look under the host that a name without one means"
    containers.images_sh("load", tmp_path, "router")
    containers.images_sh("tag", "localhost:5000", "router")
    assert f"localhost:5000/phi-serve/router:{VERSION}" in containers.buildah("images", "--format", "{{.Name}}:{{.Tag}}")


def test_what_push_takes_to_a_registry_can_be_pulled_elsewhere(images, tmp_path, elsewhere):
    with contextlib.closing(containers.Registry(tmp_path)) as registry:
        name = f"{registry.address}/phi-serve/router:{VERSION}"
        containers.images_sh("push", registry.address, "router", **registry.environment)
        elsewhere.buildah("pull", "--quiet", name, env={**os.environ, **registry.environment})
    pulled = elsewhere.inspect(name)
    assert (pulled["config"], pulled["rootfs"]["diff_ids"]) == (images["router"].config, images["router"].layers)


# Keeps what it is given: images.sh takes its folder away again.
KIND = """#!/bin/sh
printf '%s\\n' "$*" >>"$KIND_KEEPS/calls"
for last; do :; done
cp "$last" "$KIND_KEEPS"
"""


def test_kind_is_given_each_image_as_an_archive_that_can_be_loaded(images, tmp_path, elsewhere):
    kind = tmp_path / "bin" / "kind"
    kind.parent.mkdir()
    kind.write_text(KIND, encoding="utf-8")
    kind.chmod(0o755)
    containers.images_sh("kind", "phi", PATH=f"{kind.parent}:{os.environ['PATH']}", KIND_KEEPS=str(tmp_path))
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert [re.sub(r" /\S*/", " ", call) for call in calls] == [f"load image-archive --name phi {name}.tar" for name in NAMES]
    elsewhere.buildah("pull", "--quiet", f"docker-archive:{tmp_path / 'router.tar'}")
    assert elsewhere.inspect(f"phi-serve/router:{VERSION}")["rootfs"]["diff_ids"] == images["router"].layers
    assert not pathlib.Path(calls[0].split()[-1]).parent.exists()


def test_what_cannot_run_here_is_told_as_not_run():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHI_TEST_")} | {"PATH": "/nonexistent"}
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "test_configuration"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment).stdout
    assert "buildah is not installed" in told and re.search(r"^figure: NOT RUN: \S*test_images.py: ", told, re.M), told


def test_compose_is_valid_and_names_what_exists(tmp_path):
    whole = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    whole.pop("name")  # younger than Debian's docker-compose
    copy = tmp_path / "docker" / "compose.yaml"
    copy.parent.mkdir()
    copy.write_text(yaml.safe_dump(whole), encoding="utf-8")
    containers.run("docker-compose", "-f", copy, "config", "--quiet")
    for service in SERVICES.values():
        if service["image"].startswith("phi-serve/"):
            assert service["image"].endswith(f":{VERSION}"), service["image"]
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), service["image"]
        for source in mounts(service).values():
            assert source.exists(), source


def mounts(service):
    """Path in the container: path here."""
    volumes = [volume.split(":") for volume in service.get("volumes", [])]
    return {inside: (COMPOSE.parent / source).resolve() for source, inside, *_ in volumes}


def flag(service, name):
    [value] = [word.partition("=")[2] for word in service["command"] if word.startswith(f"--{name}=")]
    return value


def test_compose_flags_exist():
    for name in ("router", "worker"):
        known = containers.run(phi_programs.BIN / f"phi-{name}", "--help")
        for word in SERVICES[name]["command"]:
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", known), word


def test_prometheus_of_compose_takes_its_configuration(tmp_path):
    """The files as they are mounted, below a folder that stands for the container's root."""
    for inside, source in mounts(SERVICES["prometheus"]).items():
        target = tmp_path / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    promtool = shutil.which("promtool") or ROOT / "build" / "tools" / "promtool"
    said = containers.run(promtool, "check", "config", tmp_path / flag(SERVICES["prometheus"], "config.file").lstrip("/"))
    assert re.search(r"SUCCESS: 1 rule files found", said) and re.search(r"SUCCESS: \d\d+ rules found", said), said


def test_prometheus_of_compose_scrapes_what_the_rules_are_about():
    config = yaml.safe_load(mounts(SERVICES["prometheus"])[flag(SERVICES["prometheus"], "config.file")].read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    for service, matcher in (("router", sources.rules.ROUTERS), ("worker", sources.rules.WORKERS)):
        [name] = [job for job in jobs if re.fullmatch(re.fullmatch(r'job=~"(.*)"', matcher).group(1), job)]
        port = flag(SERVICES[service], "metrics_listen").rpartition(":")[2]
        assert jobs.pop(name) == [{"targets": [f"{service}:{port}"]}]
    assert not jobs


def test_grafana_of_compose_is_provisioned_with_the_dashboards_and_their_data():
    inside = mounts(SERVICES["grafana"])

    def provisioned(what):
        [source] = [source for path, source in inside.items() if path.startswith(f"/etc/grafana/provisioning/{what}/")]
        [entry] = yaml.safe_load(source.read_text(encoding="utf-8"))["datasources" if what == "datasources" else "providers"]
        return entry

    provider, data = provisioned("dashboards"), provisioned("datasources")
    assert provider["type"] == "file"
    boards = {path.stem: path.read_text(encoding="utf-8") for path in inside[provider["options"]["path"]].glob("*.json")}
    assert set(boards) == {board.uid for board in sources.dashboards.dashboards()}
    # Prometheus listens where its image does: compose.yaml gives it no address of its own.
    assert not any(word.startswith("--web.listen-address") for word in SERVICES["prometheus"]["command"])
    assert data["type"] == "prometheus" and data["isDefault"] and data["url"] == "http://prometheus:9090" and "prometheus" in SERVICES
    # The boards' variable takes the default one; nothing names another.
    used = {uid for board in boards.values() for uid in re.findall(r'"uid": *"([^"]+)"', board)} - set(boards)
    assert used <= {"${datasource}", data["uid"]}, used


def test_the_dockerfile_pins_what_it_starts_from():
    text = containers.DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r"^ARG DEBIAN=debian:bookworm-\d{8}-slim$", text, re.M) and "latest" not in text
    base, day = re.search(r"^ARG DEBIAN=\D*(\d{8})", text, re.M).group(1), re.search(r"^ARG SNAPSHOT=(\d{8})T\d{6}Z$", text, re.M).group(1)
    assert base <= day, "packages older than those of the base do not fit it"
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.M))
    assert {"router", "worker-cpu", "worker-cuda"} <= stages


def test_the_dockerfile_takes_cuda_by_version_and_by_its_key():
    """Debian's packages are pinned by the day; NVIDIA's repository has no such thing."""
    text = containers.DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    stage = re.search(r" AS compiled-cuda\n(.*?)\nFROM ", text, re.S).group(1)
    values = dict(re.findall(r"^ARG (\w+)=(\S+)$", stage, re.M))
    packages = [word for words in re.findall(r"--no-install-recommends ([^&\n]*)", stage) for word in words.split()]
    versions = {name: values[version.lstrip("$")] for name, _, version in (word.partition("=") for word in packages if word != "ca-certificates")}
    assert {"cuda-nvcc-13-0", "cuda-cudart-13-0", "libcublas-13-0", "libnccl2"} <= set(versions)
    assert all(re.fullmatch(r"\d+(\.\d+)+-1(\+cuda13\.0)?", version) for version in versions.values()), versions
    [(_, kept)] = re.findall(r"^ADD (\S+) (\S+)$", stage, re.M)
    assert f"[signed-by={kept},$CUDA_KEY] $CUDA_REPOSITORY/ /" in stage and re.fullmatch(r"[0-9A-F]{40}", values["CUDA_KEY"])
