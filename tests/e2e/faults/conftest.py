"""The replica that a file of fault tests shares, and what has to hold after each of them."""

import pytest
from phi_programs import Replica
from quiet import Quiet


@pytest.fixture(scope="module")
def replica(request):
    """One router and one worker for the file, started with its REPLICA: keyword arguments of phi_programs.Replica."""
    with Replica(**getattr(request.module, "REPLICA", {})) as started:
        yield started


@pytest.fixture(scope="module")
def _quiet(replica):
    return Quiet(replica)


@pytest.fixture
def served(replica, _quiet):
    """The shared replica; after the test it has to be as it was before."""
    yield replica
    _quiet.check()
