#!/usr/bin/env python3
"""The rules of the tree that no compiler checks: who may include whom, sizes, and what must not be named.

Usage: check_tree.py ROOT. Prints one line a finding, `path:line: text`; exits 1 when any of them is an error.
"""

import ast
import os
import pathlib
import re
import subprocess
import sys

import cpp_functions

FILE_LINES_EXPLAIN = 400
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
FOLDER_FILES_MAX = 25

CPP = (".cc", ".h", ".cu", ".cuh")
CODE = CPP + (".py", ".sh", ".proto", ".cmake", "CMakeLists.txt")
# Data: as large as it has to be, and not written by hand.
DATA = re.compile(r"^(deploy/models|tests/golden|tests/fuzz/corpus)/")

# Room -> what it may include of ours. Longest room first.
ROOMS = {
    "kernels/": ("kernels/",),
    "shard/": ("shard/", "kernels/"),
    "service/text/": ("service/text/", "kernels/base/"),
    "service/": ("service/", "shard/", "kernels/", "proto/"),
    "proto/": ("proto/",),
}
OURS = ("kernels/", "shard/", "service/", "proto/", "tools/", "tests/")
PROTO_HEADER = re.compile(r"^(phi|google/rpc|grpc/health)/.*\.pb\.h$")
# A library's header may be in one room only, or in no header of ours.
LIBRARY_ROOMS = {"grpcpp/": "service/", "google/protobuf/": "service/", "spdlog/": "service/telemetry/"}
NOT_IN_HEADERS = ("prometheus/", "gloo/", "civetweb.h")

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
# The wall clock may be set while a service runs, so time-outs, ages and durations are the steady clock's. These files mean
# the time of day (a certificate's end, a metric's Unix time, log lines) or translate what gRPC gives.
WALL_CLOCK = re.compile(r"absl::Now\(|\bsystem_clock\b|\b(?:Await|Wait)With(?:Timeout|Deadline)\b")
WALL_CLOCK_FILES = (
    "service/access/tls_monitor.cc",
    "service/api/grpc_deadline.cc",
    "service/telemetry/logging.cc",
    "service/worker/group/group_metrics.cc",
)
# Written in pieces, so that this file does not name them either.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me)/\w"),
    "a design folder outside the repository": re.compile(r"sha" + r"red/(?:design|research|tokenizer|hooks)"),
    "a package registry's host": re.compile(
        r"\b(?:pypi\.o" + r"rg|pythonhosted\.o" + r"rg|npmjs\.o" + r"rg|crates\.i" + r"o|debian\.o" + r"rg/debian"
        r"|anaconda\.o" + r"rg|docker\.i" + r"o/|quay\.i" + r"o|proxy\.golang\.o" + r"rg)"
    ),
}


class Findings:
    def __init__(self):
        self.errors = 0

    def error(self, path, line, text):
        self.errors += 1
        print(f"{path}:{line}: {text}")

    @staticmethod
    def warn(path, line, text):
        print(f"{path}:{line}: warning: {text}")


def tree_files(root):
    """Paths of all files that belong to the tree, relative to root."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        return sorted({name for name in names if name and (root / name).is_file()})
    found = []
    for folder, _, names in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(found)


def check_includes(path, lines, findings):
    room = next((r for r in ROOMS if path.startswith(r)), None)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        included = match.group(1)
        if path.endswith(".h") and included.startswith(NOT_IN_HEADERS) and not path.startswith(("tests/", "tools/")):
            findings.error(path, number, f"{included} belongs in a source, not in a header")
        if room is None:
            continue
        if included.startswith(OURS) and not included.startswith(ROOMS[room]):
            findings.error(path, number, f"{room} must not include {included}")
        if PROTO_HEADER.match(included) and (not path.startswith("service/") or room == "service/text/"):
            findings.error(path, number, f"{room} must not include {included}: protos belong to service")
        for library, home in LIBRARY_ROOMS.items():
            if included.startswith(library) and not path.startswith(home):
                findings.error(path, number, f"{included} belongs to {home}")


def check_sizes(path, text, lines, findings):
    if len(lines) > FILE_LINES_MAX:
        findings.error(path, 1, f"{len(lines)} lines, more than {FILE_LINES_MAX}")
    elif len(lines) > FILE_LINES_EXPLAIN:
        findings.warn(path, 1, f"{len(lines)} lines, more than {FILE_LINES_EXPLAIN}")
    spans = []
    if path.endswith(CPP):
        spans = cpp_functions.functions(text)
    elif path.endswith(".py"):
        try:
            nodes = ast.walk(ast.parse(text))
        except SyntaxError as error:
            findings.error(path, error.lineno or 1, f"not Python: {error.msg}")
            return
        spans = [(n.lineno, n.end_lineno) for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for first, last in spans:
        if last - first + 1 > FUNCTION_LINES_MAX:
            findings.error(path, first, f"a function of {last - first + 1} lines, more than {FUNCTION_LINES_MAX}")


def check_words(path, lines, findings):
    for number, line in enumerate(lines, 1):
        for what, pattern in FORBIDDEN.items():
            if pattern.search(line):
                findings.error(path, number, f"names {what}")
        if path.endswith(CODE) and line != line.rstrip():
            findings.error(path, number, "space at the line's end")


def check_clocks(path, lines, findings):
    if not path.startswith("service/") or path in WALL_CLOCK_FILES:
        return
    for number, line in enumerate(lines, 1):
        if match := WALL_CLOCK.search(line):
            findings.error(path, number, f"{match.group()} follows the wall clock, which may be set; see service/api/steady_clock.h")


def check_folders(files, findings):
    counts = {}
    for path in files:
        if not DATA.match(path) and path.endswith(CODE) and not path.endswith("CMakeLists.txt"):
            folder = str(pathlib.PurePath(path).parent)
            counts[folder] = counts.get(folder, 0) + 1
    for folder, count in sorted(counts.items()):
        if count > FOLDER_FILES_MAX:
            findings.error(folder, 1, f"{count} files, more than {FOLDER_FILES_MAX}")


def main(root):
    findings = Findings()
    files = tree_files(root)
    for path in files:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # data
        lines = text.splitlines()
        if path.endswith(CPP):
            check_includes(path, lines, findings)
            check_clocks(path, lines, findings)
        if not DATA.match(path):
            check_words(path, lines, findings)
            if path.endswith(CODE):
                check_sizes(path, text, lines, findings)
    check_folders(files, findings)
    print(f"tree: {len(files)} files, {findings.errors} findings")
    return 1 if findings.errors else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
