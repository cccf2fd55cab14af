#!/usr/bin/env python3
"""Counts the test cases of one or more ctest runs.

Usage: count_cases.py RESULTS. RESULTS holds one folder a run: `ctest.xml` (ctest --output-junit) and, for each program that
tells of its cases, NAME.xml (GTEST_OUTPUT, pytest --junitxml). A program counts by its cases, or as one case where it has none to
tell; one that failed although every case it told of passed counts as one failure more. Prints "passed failed", then the failures.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def cases(path):
    """(passed, names of the failed) of a program's own report; nothing where there is no whole report."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed, failed = 0, []
    for case in root.iter("testcase"):
        if case.find("skipped") is not None or case.get("status") == "notrun":
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
    return passed, failed


def count(folder):
    passed, failed = 0, []
    for entry in ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase"):
        name = entry.get("name")
        entry_failed = entry.get("status") not in ("run", "notrun", "disabled")
        if entry.get("status") in ("notrun", "disabled"):
            failed.append(f"{name} did not run")
            continue
        told = cases(folder / f"{name}.xml")
        if told is None:
            passed += not entry_failed
            failed += [name] if entry_failed else []
            continue
        passed += told[0]
        failed += [f"{name}: {case}" for case in told[1]]
        if entry_failed and not told[1]:
            failed.append(f"{name}: ended badly after its cases")
    return passed, failed


def main(results):
    passed, failed = 0, []
    for folder in sorted(results.iterdir()):
        if (folder / "ctest.xml").exists():
            more_passed, more_failed = count(folder)
            passed += more_passed
            failed += [f"{folder.name}: {name}" for name in more_failed]
        elif (folder / "failed").exists():
            failed.append(f"{folder.name}: " + (folder / "failed").read_text().strip())
        elif (folder / "passed").exists():
            passed += 1
    print(passed, len(failed))
    print("\n".join(failed))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
