"""What holds for everybody else, whatever a stranger sends: they are served, and memory comes back."""

from phi_client import message_class
from phi_programs import SANITIZED, wait_until
from raw_http2 import TOKENIZE, Connection

# What `grpc-status` says.
OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED = "0", "8", "12"
TOKENIZE_X = message_class("phi.v1.TokenizeRequest")(text="x").SerializeToString()
# What a fault may add to a program's memory while it lasts.
GROWTH = 64e6


def memory(server):
    return server.metric("process_resident_memory_bytes")


def assert_bounded(server, before, growth=GROWTH):
    """What is free goes back to the system every few seconds."""
    if not SANITIZED:
        wait_until(lambda: memory(server) <= before + growth, f"{server.name} back to {(before + growth) / 1e6:.0f} MB")


def assert_alive_for_others(router):
    """A connection of its own is served, whatever happened to another one."""
    with Connection(router.address) as fresh:
        assert fresh.call(TOKENIZE, TOKENIZE_X).get("grpc-status") == OK
