"""The process that executes model output; sandbox.py passes this text to `python3 -c`."""

import json
import os
import resource
import sys

NOT_ISOLATED = 97


def refuse(why):
    sys.stderr.write(why + "\n")
    sys.exit(NOT_ISOLATED)


def isolate(job):
    """Checks the namespace, then gives up rights; must come before any of the program runs."""
    if os.readlink("/proc/self/ns/net") == job["outer_network"]:
        refuse("still in the caller's network namespace")
    limits = {
        resource.RLIMIT_CPU: int(job["seconds"]) + 1,
        resource.RLIMIT_AS: job["memory_bytes"],
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 1,
    }
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    if job["drop_to"] is not None:
        os.setgroups([])
        os.setgid(job["drop_to"])
        os.setuid(job["drop_to"])


def main():
    job = json.load(sys.stdin)
    verdict = os.dup(1)
    isolate(job)
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    namespace = {"__name__": "candidate"}
    exec(compile(job["program"], "program", "exec"), namespace)
    candidate = namespace[job["entry_point"]]
    exec(compile(job["test"], "test", "exec"), namespace)
    namespace["check"](candidate)
    os.write(verdict, job["nonce"].encode())


main()
