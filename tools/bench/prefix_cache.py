#!/usr/bin/python3
"""How much sooner the first token comes when a prompt's beginning is in the prefix cache.

Starts a worker and a router of PHI_BIN (build/release/bin) on a model directory, sends prompts with a new beginning of --tokens
tokens and then the same beginnings with other ends, and prints the times to the first token.

    build/release/bin/make_checkpoint --preset phi-1 /tmp/phi-1-random
    tools/bench/prefix_cache.py /tmp/phi-1-random
"""

import argparse
import pathlib
import random
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/e2e"))

import phi_programs  # noqa: E402

END_TOKENS = 8


def first_token_seconds(replica, prompt):
    """(seconds to the first token, prompt tokens that the cache had)."""
    summary = replica.client.generate(prompt, timeout=600, max_new_tokens=1, ignore_eos=True).summary
    return summary.timings.time_to_first_token.ToNanoseconds() / 1e9, summary.usage.cached_prompt_tokens


def measure(replica, num_tokens, rounds):
    rng = random.Random(1)
    tokens = lambda count: [rng.randrange(256) for _ in range(count)]  # noqa: E731
    cold, repeated, cached = [], [], []
    first_token_seconds(replica, tokens(num_tokens))  # the first request touches cold memory
    for _ in range(rounds):
        beginning = tokens(num_tokens)
        seconds, hits = first_token_seconds(replica, beginning + tokens(END_TOKENS))
        assert hits == 0, f"{hits} tokens of a new prompt were cached"
        cold.append(seconds)
        seconds, hits = first_token_seconds(replica, beginning + tokens(END_TOKENS))
        repeated.append(seconds)
        cached.append(hits)
    return cold, repeated, cached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="model directory")
    parser.add_argument("--tokens", type=int, default=1000, help="tokens of the common beginning")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tensor_parallel", type=int, default=1)
    args = parser.parse_args()
    phi_programs.PATIENCE = 600  # a large model takes its time to load
    # A busy machine shall slow the measurement, not end it.
    flags = ("--max_sequences=4", "--verify_weights=false", "--stall_limit=2m")
    with phi_programs.Replica(args.model, args.tensor_parallel, *flags, dtype=args.dtype, threads=0) as replica:
        cold, repeated, cached = measure(replica, args.tokens, args.rounds)
    for name, values in (("cold", cold), ("repeated", repeated)):
        print(f"{name:9} first token after {statistics.median(values):.3f} s (median of {', '.join(f'{v:.3f}' for v in values)})")
    print(f"{cached[-1]} of {args.tokens + END_TOKENS} prompt tokens from the cache: "
          f"{statistics.median(cold) / statistics.median(repeated):.1f} times sooner")  # fmt: skip


if __name__ == "__main__":
    main()
