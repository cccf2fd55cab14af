"""Calls to servers of TLS, those that must fail at the handshake among them, and what starts such servers."""

import contextlib
import subprocess

import grpc
import pytest
from phi_client import Client, Refusal
from phi_programs import BIN, PATIENCE


def tls_flags(files):
    """Of a server with the certificate of these certificates.Folder."""
    return f"--tls_cert={files.cert}", f"--tls_key={files.key}"


def client(address, ca, **options):
    return contextlib.closing(Client(address, tls_ca=ca, **options))


def refused(call, *args, **fields):
    with pytest.raises(grpc.RpcError) as error:
        call(*args, **fields)
    return Refusal(error.value)


def assert_no_handshake(server, ca, **options):
    """Nobody gets as far as a call with these credentials."""
    with client(server.address, ca, **options) as outside:
        refusal = refused(outside.health)
    assert refusal.code == grpc.StatusCode.UNAVAILABLE, refusal


def bad_pairs(name, authority, stranger):
    """What a client may show instead of a good certificate, by kind."""
    return {
        "nobody": (None, None),
        "stranger": stranger.issue(name),
        "expired": authority.issue(name, days=(-10, -1)),
        "not_yet": authority.issue(name, days=(1, 10)),
    }


def phictl(*args):
    done = subprocess.run([str(BIN / "phictl"), *map(str, args)], capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr
