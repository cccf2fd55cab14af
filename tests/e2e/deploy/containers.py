"""Images by buildah without privileges of its own (chroot isolation, vfs storage), and processes inside of them as a container runtime
starts them: read-only root, the image's user and entrypoint, no new privileges, process 1 of a process namespace. Needs root.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.request

import kubelet
import phi_programs

ROOT = phi_programs.ROOT
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
FOLDER = ROOT / "build" / "images"
# Storage by vfs copies every layer whole, so it goes to memory where there is plenty; each checkout has its own.
IN_MEMORY = pathlib.Path("/dev/shm")
STORAGE = (IN_MEMORY if shutil.disk_usage(IN_MEMORY).free > 8e9 else FOLDER) / f"phi-images-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
OPTIONS = [f"--root={STORAGE}/root", f"--runroot={STORAGE}/run", "--storage-driver=vfs"]
# What the Dockerfile begins with.
BASE = "localhost/" + re.search(r"^ARG DEBIAN=(.*)", DOCKERFILE.read_text(encoding="utf-8"), re.M).group(1)
# What Debian's slim images leave out too.
NOT_IN_BASE = ("./var/cache/apt", "./var/lib/apt/lists/*", "./var/log/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./dev/*")


def run(*command, timeout=600, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False, **options)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def buildah(*arguments, **options) -> str:
    return run("buildah", *OPTIONS, *arguments, **options)


def unavailable() -> str:
    """Why this machine cannot build and run images; empty where it can."""
    for program in ("buildah", "debootstrap", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "not root"
    try:
        run("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true")
        container = buildah("from", "scratch")
        buildah("rm", container)
    except OSError as error:
        return str(error)
    return ""


def clear() -> None:
    """All but the base: each build of other programs would leave whole file systems behind."""
    shutil.rmtree(STORAGE, ignore_errors=True)


def make_base() -> None:
    """Debian 12 from the machine's own package source, under the name of the Dockerfile's base. Kept in build/images."""
    archive = FOLDER / "base.tar"
    if not archive.exists():
        mirror = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm").splitlines()[0]
        for attempts_left in (2, 1, 0):  # a mirror fails now and then
            shutil.rmtree(FOLDER / "base", ignore_errors=True)
            try:
                run("debootstrap", "--variant=minbase", "bookworm", FOLDER / "base", mirror)
                break
            except OSError:
                if attempts_left == 0:
                    raise
        run("tar", "-C", FOLDER / "base", *(f"--exclude={path}" for path in NOT_IN_BASE), "--numeric-owner", "-cf", f"{archive}.part", ".")
        shutil.rmtree(FOLDER / "base")
        os.rename(f"{archive}.part", archive)
    if BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, archive, "/")
        buildah("commit", "--quiet", container, BASE)
        buildah("rm", container)


def images_sh(*arguments, **environment) -> str:
    environment = {
        **os.environ,
        "PHI_CONTAINER_ENGINE": "buildah",
        "PHI_ENGINE_OPTIONS": " ".join(OPTIONS),
        "PHI_BUILD_OPTIONS": f"--isolation=chroot --layers --pull-never --build-arg SNAPSHOT=none --build-arg DEBIAN={BASE}",
        "PHI_IMAGE_BIN": str(phi_programs.BIN),
        **environment,
    }
    return run(ROOT / "tools" / "images.sh", *arguments, env=environment)


class Elsewhere:
    """Another machine's images: storage of its own, where there is nothing yet."""

    def __init__(self):
        self.folder = STORAGE / "elsewhere"
        shutil.rmtree(self.folder, ignore_errors=True)

    def buildah(self, *arguments, **options) -> str:
        return run("buildah", f"--root={self.folder}/root", f"--runroot={self.folder}/run", "--storage-driver=vfs", *arguments, **options)

    def inspect(self, name: str) -> dict:
        return json.loads(self.buildah("inspect", "--type=image", name))["OCIv1"]

    def close(self) -> None:
        shutil.rmtree(self.folder)


class Registry:
    """Debian's own registry server on loopback, without TLS. `environment`: what makes buildah take that from it."""

    def __init__(self, folder: pathlib.Path):
        self.address = f"127.0.0.1:{phi_programs.free_port()}"
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}}, "http": {"addr": self.address}}
        (folder / "registry.json").write_text(json.dumps(config), encoding="utf-8")  # which is YAML
        (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{self.address}"\ninsecure = true\n', encoding="utf-8")
        self.environment = {"CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf")}
        self.log = folder / "registry.log"
        program = shutil.which("docker-registry") or ROOT / "build" / "tools" / "docker-registry"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program, "serve", folder / "registry.json"], stdout=log, stderr=log)
        phi_programs.wait_until(self.ready, "the registry is ready")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Image:
    """A built image: its configuration, and its files, which are unpacked while it lives."""

    def __init__(self, name: str):
        self.name = name
        whole = json.loads(buildah("inspect", "--type=image", name))["OCIv1"]
        self.config, self.layers = whole["config"], whole["rootfs"]["diff_ids"]
        self.container = buildah("from", "--pull-never", name)
        self.root = pathlib.Path(buildah("mount", self.container))

    def close(self) -> None:
        buildah("rm", self.container)

    def compressed_layers(self, folder: pathlib.Path) -> list[tuple[str, int]]:
        """What a registry would hold: each layer's instruction and compressed bytes."""
        buildah("push", "--quiet", self.name, f"oci:{folder}:image")

        def blob(digest):
            return json.loads((folder / "blobs" / digest.replace(":", "/")).read_bytes())

        manifest = blob(json.loads((folder / "index.json").read_bytes())["manifests"][0]["digest"])
        history = [entry["created_by"] for entry in blob(manifest["config"]["digest"])["history"] if not entry.get("empty_layer")]
        sizes = [layer["size"] for layer in manifest["layers"]]
        assert len(history) == len(sizes), (history, sizes)
        return list(zip(history, sizes))


# Inside of `ip netns exec` and `unshare`: the root read-only, /proc and devices, and then the image's user.
ENTER = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount --bind /etc/hosts "$1/etc/hosts" && mount -o remount,bind,ro "$1" &&
mount -t proc proc "$1/proc" && mount -t tmpfs -o size=64k,mode=755 dev "$1/dev" && touch "$1/dev/null" "$1/dev/urandom" && mkdir "$1/dev/shm" &&
mount -t tmpfs -o size=64m,mode=1777 shm "$1/dev/shm" &&
mount --bind /dev/null "$1/dev/null" && mount --bind /dev/urandom "$1/dev/urandom" || exit 125
root=$1 user=$2
shift 2
exec setpriv --no-new-privs chroot --userspec="$user" "$root" /usr/bin/env -i "$@"
"""


class Container(kubelet.Sandbox):
    """A process of an image on a network of its own."""

    def __init__(self, cluster: kubelet.Cluster, image: Image, arguments: list[str]):
        self.image = image
        (image.root / "etc" / "hosts").touch()
        super().__init__(cluster, {"spec": {"containers": [{"command": [*image.config["Entrypoint"], *arguments]}]}})

    def start(self) -> subprocess.Popen:
        key, value = phi_programs.MARK.split("=")
        config = self.image.config
        inside = [*config.get("Env", []), phi_programs.MARK, *self.container["command"]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL"]
                + ["sh", "-c", ENTER, "sh", str(self.image.root), config["User"], *inside],
                stdout=log,
                stderr=log,
                env={**os.environ, key: value},
                start_new_session=True,
            )
        return self.process

    def first_process(self) -> int:
        """Process 1 of the container, as this machine numbers it; 0 before there is one."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else 0

    def status(self) -> dict[str, str]:
        lines = pathlib.Path(f"/proc/{self.first_process()}/status").read_text(encoding="utf-8").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
