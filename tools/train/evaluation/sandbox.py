"""Runs untrusted Python in a separate process without network, with time and memory limits.

The process is put into a network namespace of its own by unshare(1) and checks that before it runs
anything; where that is not to be had, nothing is run (SandboxUnavailable). Under root it also drops
to nobody. It may not write files. A verdict counts only with the nonce that the runner writes after
the checks have returned, so a program that exits early has not passed.
"""

from __future__ import annotations

import enum
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys

RUNNER = pathlib.Path(__file__).with_name("sandbox_runner.py")
NOT_ISOLATED = 97  # exit status of the runner
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"


class SandboxUnavailable(Exception):
    """No isolated process can be had here; nothing was executed."""


class Verdict(enum.Enum):
    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"


def _command() -> list[str]:
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SandboxUnavailable("unshare(1) of util-linux is not installed")
    namespaces = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    # nobody must be able to read the interpreter's library, which a home directory may forbid
    python = SYSTEM_PYTHON if os.path.exists(SYSTEM_PYTHON) else sys.executable
    return [unshare, *namespaces, python, "-I", "-B", "-c", RUNNER.read_text(encoding="utf-8")]


def execute(program: str, test: str, entry_point: str, seconds: float = 10.0, memory_mib: int = 512) -> Verdict:
    """Runs program, then test's check(entry_point). Errors: SandboxUnavailable."""
    nonce = secrets.token_hex(16)
    job = {
        "program": program, "test": test, "entry_point": entry_point, "nonce": nonce,
        "seconds": seconds, "memory_bytes": memory_mib << 20,
        "outer_network": os.readlink("/proc/self/ns/net"),
        "drop_to": NOBODY if os.geteuid() == 0 else None,
    }
    try:
        result = subprocess.run(
            _command(), input=json.dumps(job).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds + 5.0,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, cwd="/", start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return Verdict.TIMED_OUT
    if result.returncode == NOT_ISOLATED or b"unshare" in result.stderr[:40]:
        raise SandboxUnavailable(result.stderr.decode(errors="replace").strip() or "no network namespace")
    if result.returncode == 0 and result.stdout == nonce.encode():
        return Verdict.PASSED
    return Verdict.TIMED_OUT if result.returncode < 0 else Verdict.FAILED
