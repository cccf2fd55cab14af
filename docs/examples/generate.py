"""Streams an answer from phi-serve: with a deadline, with cancellation by Ctrl-C, and with retries that gRPC makes itself.

    python generate.py ADDRESS PROMPT [SECONDS]

The package is tools/python; what it sends again and how it balances is its SERVICE_CONFIG.
"""

import sys

import phi_serve


def main(address: str, prompt: str, seconds: str = "30") -> int:
    with phi_serve.Client(address, timeout=float(seconds)) as client:
        try:
            for delta in client.stream(prompt, max_new_tokens=128, stop_conditions=["top_level"]):
                print(delta.text, end="", flush=True)
        except phi_serve.PhiError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:  # leaving the loop has cancelled the call
            return 130
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
