"""The wall clock jumps by an hour, forth and back, under the running programs: libfaketime tells them another time."""

import os
import pathlib

import pytest
from phi_client import join
from phi_programs import PATIENCE, Router, Worker

PROMPT = "def f():\n"
LONG = {"max_new_tokens": 300, "ignore_eos": True}
LIBRARIES = pathlib.Path("/usr/lib")


@pytest.fixture
def wall_clock(tmp_path):
    """(environment of a program that reads this clock, function that sets its offset)."""
    library = next(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library, "tools/setup.sh installs faketime"
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        # It asks to be the first library loaded, which matters only for what both replace.
        "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0",
    }
    return environment, offset.write_text


def test_row71_jumps_of_the_wall_clock_under_streams(started, wall_clock):
    """The stream under way is complete, deadlines are kept from then on, and nobody takes the replica for lost."""
    environment, set_offset = wall_clock
    worker = started(Worker(tensor_parallel=2, env=environment))
    router = started(Router([worker.address], env=environment))
    worker.wait_ready()
    router.wait_ready()
    client = router.client()
    expected = client.generate(PROMPT, **LONG).completions[0].token_ids
    for offset in ("+3600s", "-3600s", "+0"):
        stream = client.stream(PROMPT, timeout=PATIENCE, **LONG)
        ids = list(next(stream).token_ids)
        set_offset(offset)
        assert ids + join(stream)[1] == expected, offset
        for limits in ({"time_limit": PATIENCE}, {"timeout": PATIENCE}, {"timeout": None}):
            answer = client.generate(PROMPT, max_new_tokens=20, ignore_eos=True, **limits)
            assert answer.completions[0].finish.generated_tokens == 20, (offset, limits)
        assert worker.ready() and router.ready() and worker.epoch() == 1, offset
    client.close()
    hours = {entry["time"][11:13] for entry in router.log_entries()}
    assert len(hours) >= 3, "the clock did not jump"
