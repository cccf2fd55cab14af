"""The images are built by tools/images.sh, looked at, and run as compose.yaml says: read-only, as nobody, and Generate answers."""

import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import time

import containers
import kubelet
import phi_client
import phi_programs
import pytest
import yaml

ROOT = phi_programs.ROOT
COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
VERSION = re.search(r"VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8").partition("project(")[2]).group(1)
NAMES = ("router", "worker-cpu")
MOST_COMPRESSED = 120e6


@pytest.fixture(scope="module")
def images(figure):
    if why := containers.unavailable():
        pytest.skip(f"images cannot be built and run here: {why}")
    start = time.monotonic()
    containers.clear()
    containers.make_base()
    based = time.monotonic()
    containers.images_sh("build", "--prebuilt", *NAMES, binaries=phi_programs.BIN)
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
    assert labels["revision"] in (containers.run("git", "-C", ROOT, "rev-parse", "HEAD") if (ROOT / ".git").exists() else "unknown")


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
def cluster(tmp_path):
    try:
        made = kubelet.Cluster(tmp_path)
    except OSError as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")
    yield made
    made.close()


def start_services(cluster, images):
    """Router and worker by compose.yaml's own commands, each under its name on one network."""
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    made = {}
    for name in ("worker", "router"):
        image = images[services[name]["image"].removeprefix("phi-serve/").removesuffix(f":{VERSION}")]
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
        made[name] = containers.Container(cluster, image, services[name]["command"])
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
        pytest.skip("this build has no CUDA backend")
    start = time.monotonic()
    containers.images_sh("build", "--prebuilt", "worker-cuda", binaries=phi_programs.BIN)
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


def test_save_gives_an_archive_that_load_takes(images, tmp_path):
    del images
    containers.images_sh("save", tmp_path, "router", binaries=phi_programs.BIN)
    with tarfile.open(tmp_path / "router.tar") as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))
    hosts = [tag.removesuffix(f"/phi-serve/router:{VERSION}") for tag in entry["RepoTags"]]
    assert set(hosts) - {"localhost", *entry["RepoTags"]}, "nodes look under the host that a name without one means"
    containers.images_sh("load", tmp_path, "router", binaries=phi_programs.BIN)
    containers.images_sh("tag", "localhost:5000", "router", binaries=phi_programs.BIN)
    assert f"localhost:5000/phi-serve/router:{VERSION}" in containers.buildah("images", "--format", "{{.Name}}:{{.Tag}}")


def test_compose_is_valid_and_names_what_exists(tmp_path):
    whole = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    whole.pop("name")  # younger than Debian's docker-compose
    copy = tmp_path / "docker" / "compose.yaml"
    copy.parent.mkdir()
    copy.write_text(yaml.safe_dump(whole), encoding="utf-8")
    containers.run("docker-compose", "-f", copy, "config", "--quiet")
    for name, service in whole["services"].items():
        image, _, tag = service["image"].rpartition(":")
        assert tag and tag != "latest" and re.match(r"v?\d+\.\d+\.\d+$", tag), service["image"]
        assert not image.startswith("phi-serve/") or tag == VERSION, name
        for volume in service.get("volumes", []):
            assert (COMPOSE.parent / volume.split(":")[0]).exists(), volume


def test_compose_flags_exist():
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    for name in ("router", "worker"):
        known = containers.run(phi_programs.BIN / f"phi-{name}", "--help")
        for flag in services[name]["command"]:
            assert re.search(rf"{re.escape(flag.partition('=')[0])}\b", known), flag


def test_prometheus_of_compose_takes_its_configuration(tmp_path):
    promtool = shutil.which("promtool") or ROOT / "build" / "tools" / "promtool"
    shutil.copy(ROOT / "deploy" / "docker" / "prometheus.yaml", tmp_path)
    shutil.copy(ROOT / "deploy" / "helm" / "phi-serve" / "files" / "rules.yaml", tmp_path)
    containers.run(promtool, "check", "config", tmp_path / "prometheus.yaml")
    jobs = yaml.safe_load((tmp_path / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    assert {job["static_configs"][0]["targets"][0].partition(":")[0] for job in jobs} == {"router", "worker"} <= set(services)


def test_the_dockerfile_pins_what_it_starts_from():
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG DEBIAN={containers.BASE.removeprefix('localhost/')}\n" in text and "latest" not in text
    assert re.search(r"ARG SNAPSHOT=\d{8}T\d{6}Z", text)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.M))
    assert {"router", "worker-cpu", "worker-cuda"} <= stages
