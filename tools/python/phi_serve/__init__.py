"""Client of phi-serve.

    import phi_serve

    with phi_serve.Client("localhost:50051") as client:
        for delta in client.stream("def print_prime(n):", max_new_tokens=128, stop_conditions=["top_level"]):
            print(delta.text, end="", flush=True)

Parameters are those of docs/api.md, by the same names. Every call has a deadline. A call that failed raises PhiError with the
code, the reason and the field at fault. What may be tried again is tried again before the first token, by gRPC itself.
"""

from phi_serve._aio import AsyncClient
from phi_serve._client import Client
from phi_serve._errors import PhiError
from phi_serve._types import Answer, Completion, Delta

__all__ = ["Answer", "AsyncClient", "Client", "Completion", "Delta", "PhiError"]
