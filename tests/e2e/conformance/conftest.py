"""pytest tests/e2e/conformance [--address=HOST:PORT [--token=TOKEN] [--tls-ca=FILE]]: the table, asked of any phi-serve."""

import pathlib

import pytest
from contract import Server
from phi_client import Client
from phi_programs import Serve


def pytest_addoption(parser):
    group = parser.getgroup("conformance")
    group.addoption("--address", help="HOST:PORT of the server under test; without it a phi-serve of this build is started")
    group.addoption("--token", help="bearer token to send")
    group.addoption("--tls-ca", help="PEM file of the CA that the server is checked against; without it the connection is plain")


@pytest.fixture(scope="session")
def server(request):
    option = request.config.getoption
    ca = option("--tls-ca") and pathlib.Path(option("--tls-ca")).read_bytes()
    program = None
    if not option("--address"):
        program = Serve()
        program.wait_ready()
    address = program.address if program else option("--address")
    asked = Server(lambda: Client(address, tls_ca=ca, token=option("--token")))
    yield asked
    asked.client.close()
    if program:
        assert program.stop() == 0
