"""Fixtures of the end-to-end tests: real programs from the folder PHI_BIN."""

import os
import pathlib

import phi_programs
import pytest

# A rank that reports one is replaced, and its callers may see nothing of it.
SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:")

_servers = []
_figures = []


def pytest_configure(config):
    results = os.environ.get("PHI_TEST_RESULTS")
    if results and os.environ.get("PHI_TEST_NAME"):
        config.option.xmlpath = f"{results}/{os.environ['PHI_TEST_NAME']}.xml"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in _servers:
            report.sections.append((f"log of {server.name} {server.pid}", server.log()[-6000:]))


def pytest_terminal_summary(terminalreporter):
    for figure in _figures:
        terminalreporter.write_line(f"figure: {figure}")
    results = os.environ.get("PHI_TEST_RESULTS")
    if results and _figures:
        with (pathlib.Path(results) / "figures.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{figure}\n" for figure in _figures)


def sanitizer_reports(server):
    lines = (line for line in server.log().splitlines() if any(report in line for report in SANITIZER_REPORTS))
    return [line for line in lines if server.accepted_report is None or server.accepted_report not in line]


@pytest.fixture(scope="session", autouse=True)
def _record_programs():
    """Keeps every program for the logs of a failure; at the end each has to end by itself, without a sanitizer's word, and leave nothing."""
    original = phi_programs.Program.__init__

    def recording(self, *args, **options):
        original(self, *args, **options)
        _servers.append(self)

    phi_programs.Program.__init__ = recording
    yield
    phi_programs.Program.__init__ = original
    for server in _servers:
        server.stop()
    left = phi_programs.marked_processes()
    assert not left, f"processes left behind: {left}"
    killed = [f"{server.name} {server.pid}" for server in _servers if server.had_to_be_killed]
    assert not killed, f"did not end by SIGTERM: {killed}"
    reported = {f"{server.name} {server.pid}": lines for server in _servers if (lines := sanitizer_reports(server))}
    assert not reported, f"a sanitizer reports: {reported}"


@pytest.fixture(scope="session")
def figure():
    """Keeps a measured number for the end of the run: figure("what: value")."""
    return _figures.append


@pytest.fixture(autouse=True)
def _end_children():
    yield
    for child in phi_programs.CHILDREN:
        with child:
            child.kill()
    phi_programs.CHILDREN.clear()


@pytest.fixture
def started():
    """Stops at the test's end what the test started: started(Worker(...))."""
    programs = []

    def keep(program):
        programs.append(program)
        return program

    yield keep
    for program in reversed(programs):
        program.stop()
