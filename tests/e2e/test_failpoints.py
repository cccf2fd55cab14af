"""What is shipped has no failpoints; builds for tests do, or their tests would prove nothing."""

import os

import pytest
from phi_programs import BIN

NAMES = (b".before_step", b"rank.logits", b"PHI_FAILPOINTS")


@pytest.mark.parametrize("name", NAMES)
def test_failpoints_are_in_builds_for_tests_only(name):
    wanted = os.environ.get("PHI_BUILD_FAILPOINTS") == "ON"
    assert (name in (BIN / "phi-worker").read_bytes()) == wanted
