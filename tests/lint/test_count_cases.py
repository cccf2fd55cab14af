"""tools/testing/count_cases.py on reports as ctest, GoogleTest and pytest write them."""

import pathlib
import subprocess
import sys

COUNT = pathlib.Path(__file__).resolve().parents[2] / "tools/testing/count_cases.py"
CTEST = """<testsuite>
<testcase name="good" status="run"/>
<testcase name="bad" status="fail"><failure message=""/></testcase>
<testcase name="says_so" status="notrun"><skipped message="SKIP_RETURN_CODE=1"/></testcase>
<testcase name="not_built" status="notrun"><skipped message="Unable to find executable"/></testcase>
<testcase name="switched_off" status="disabled"/>
<testcase name="told" status="run"/>
</testsuite>"""
TOLD = """<testsuites><testsuite>
<testcase classname="of" name="good"/>
<testcase classname="of" name="bad"><failure message="x"/></testcase>
<testcase classname="of" name="skipped"><skipped message="no mount namespaces here"/></testcase>
</testsuite></testsuites>"""


def test_what_did_not_run_is_said_and_counts_only_where_it_could_not_start(tmp_path):
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit/ctest.xml").write_text(CTEST)
    (tmp_path / "unit/told.xml").write_text(TOLD)
    done = subprocess.run([sys.executable, str(COUNT), str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "2 4",
        "not run: unit: says_so",
        "not run: unit: told: of.skipped",
        "failed: unit: bad",
        "failed: unit: not_built did not run",
        "failed: unit: switched_off did not run",
        "failed: unit: told: of.bad",
    ]
