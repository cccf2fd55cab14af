"""Makes phi/v1 out of proto/phi/v1/generation.proto, so that the wheel never differs from the service."""

import os
import pathlib
import shutil
import subprocess
import sysconfig

from setuptools import setup

HERE = pathlib.Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "proto"
GENERATED = HERE / "phi" / "v1"


def generate() -> None:
    GENERATED.mkdir(parents=True, exist_ok=True)
    (GENERATED / "__init__.py").touch()
    (GENERATED / "py.typed").touch()
    # mypy-protobuf's plugins are in the environment that builds, the others are Debian's.
    scripts = sysconfig.get_path("scripts")
    search = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    command = ["protoc", f"--proto_path={PROTOS}"]
    for option, plugin in (("grpc_python", "grpc_python_plugin"), ("mypy", "protoc-gen-mypy"), ("mypy_grpc", "protoc-gen-mypy_grpc")):
        command.append(f"--plugin=protoc-gen-{option}={shutil.which(plugin, path=search) or plugin}")
    command += [f"--{kind}_out={HERE}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    subprocess.run([*command, "phi/v1/generation.proto"], check=True)


generate()
setup()
