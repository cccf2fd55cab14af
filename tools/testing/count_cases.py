#!/usr/bin/env python3
"""Counts the test cases of one or more ctest runs.

Usage: count_cases.py RESULTS. RESULTS holds one folder a run: `ctest.xml` (ctest --output-junit) and, for each program that
tells of its cases, NAME.xml (GTEST_OUTPUT, pytest --junitxml). A program counts by its cases, or as one case where it has none to
tell; one that failed although every case it told of passed counts as one failure more. A case that says itself that it is
skipped counts as neither. Prints "passed failed", then a line of each that failed ("failed: ...") or was skipped ("not run: ...").
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def cases(path):
    """(passed, names of the failed, names of the skipped) of a program's own report; nothing where there is no whole report."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed, failed, skipped = 0, [], []
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            skipped.append(name)
        else:
            passed += 1
    return passed, failed, skipped


def says_it_is_skipped(entry):
    """Whether the test ran and ended by its SKIP_RETURN_CODE; what ctest could not start is "notrun" too."""
    skipped = entry.find("skipped")
    return skipped is not None and skipped.get("message", "").startswith("SKIP_RETURN_CODE")


def count(folder):
    passed, failed, skipped = 0, [], []
    for entry in ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase"):
        name = entry.get("name")
        entry_failed = entry.get("status") not in ("run", "notrun", "disabled")
        if entry.get("status") in ("notrun", "disabled"):
            if says_it_is_skipped(entry):
                skipped.append(name)
            else:
                failed.append(f"{name} did not run")
            continue
        told = cases(folder / f"{name}.xml")
        if told is None:
            passed += not entry_failed
            failed += [name] if entry_failed else []
            continue
        passed += told[0]
        failed += [f"{name}: {case}" for case in told[1]]
        skipped += [f"{name}: {case}" for case in told[2]]
        if entry_failed and not told[1]:
            failed.append(f"{name}: ended badly after its cases")
    return passed, failed, skipped


def main(results):
    passed, failed, skipped = 0, [], []
    for folder in sorted(results.iterdir()):
        if (folder / "ctest.xml").exists():
            more_passed, more_failed, more_skipped = count(folder)
            passed += more_passed
            failed += [f"{folder.name}: {name}" for name in more_failed]
            skipped += [f"{folder.name}: {name}" for name in more_skipped]
        elif (folder / "failed").exists():
            failed.append(f"{folder.name}: " + (folder / "failed").read_text().strip())
        elif (folder / "passed").exists():
            passed += 1
    print(passed, len(failed))
    for verdict, names in (("not run", skipped), ("failed", failed)):
        for name in names:
            print(f"{verdict}: {name}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
