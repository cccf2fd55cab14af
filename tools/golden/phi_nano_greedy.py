"""Writes tests/golden/phi_nano_greedy.json: transformers' greedy text of 20 prompts, in fp32.

The weights are the stored bf16 values upcast to fp32. A prompt of whose tokens one is a near tie
(the two highest logits closer than MIN_MARGIN) is passed over, since another order of summation
may decide it otherwise. Generation ends at EOS, which is neither in `text` nor in `token_ids`.

Run from the repository's root, with tools/train/requirements.txt installed:
  python3 tools/golden/phi_nano_greedy.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib

import tokenizers
import torch
import transformers

COMMAND = "python3 tools/golden/phi_nano_greedy.py"
MAX_NEW_TOKENS = 64
PROMPTS_WANTED = 20
MIN_MARGIN = 1e-3
CANDIDATES = (
    'def print_prime(n):\n   """\n   Print all primes between 1 and n\n   """\n',
    'def add(a, b):\n    """Return the sum of a and b."""\n',
    'def is_even(n):\n    """Check if n is even."""\n',
    'def factorial(n):\n    """\n    Return the factorial of n.\n    """\n',
    'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number.\n    >>> fibonacci(7)\n    13\n    """\n',
    'from typing import List\n\n\ndef largest(numbers: List[int]) -> int:\n    """ Find the largest number in the list.\n'
    "    >>> largest([3, 9, 2])\n    9\n    \"\"\"\n",
    'def reverse_text(s):\n    """Return the string s reversed."""\n',
    'def count_vowels(text):\n    """Count the vowels in text.\n\n    Args:\n        text: a string.\n\n    Returns:\n        a number.\n    """\n',
    'def is_palindrome(word):\n  """\n  Check if the word is a palindrome\n  """\n',
    'def gcd(a, b):\n    """Return the greatest common divisor of a and b."""\n',
    'def bubble_sort(values):\n    """Sort the list using bubble sort."""\n',
    'def binary_search(items, target):\n    """Return the index of target in a sorted list, or -1 if it is not found."""\n',
    'def transpose(matrix):\n    """Transpose the matrix."""\n',
    'def word_counts(text):\n    """Count how often each word appears in text."""\n',
    'def sum_even_numbers(nums):\n    """Return the sum of the even numbers in nums."""\n',
    'def fizz_buzz(n):\n    """Print FizzBuzz from 1 to n."""\n',
    'def merge(first, second):\n    """Merge two sorted lists into one sorted list."""\n',
    'def collatz(n):\n    """Return the Collatz sequence starting from n as a list."""\n',
    'def remove_duplicates(xs: list[int]) -> list[int]:\n    """Remove duplicates from xs, keeping the order."""\n',
    'def is_leap_year(year):\n    """Check if year is a leap year."""\n',
    'def caesar(s, k):\n    """Encode s with a Caesar cipher of k."""\n',
    'def grade(score):\n    """Return the letter grade for score: A from 90, B from 80, C from 70, otherwise F."""\n',
    "def ",
    "import os\n",
    "class Stack:\n    def __init__(self):\n",
    "for i in range(10):\n",
    "x = [1, 2, 3]\n",
    'def grüße(name):\n    """Return a greeting for name. ✓"""\n',
    "The quick brown fox",
    'def matmul(a, b):\n    """Multiply the matrices a and b."""\n',
)


@torch.no_grad()
def greedy(model, prompt_ids: list[int], end: int) -> tuple[list[int], list[float], str]:
    """Token ids without EOS, the margin of every choice (EOS's too), and why it ended."""
    ids, margins = list(prompt_ids), []
    for _ in range(MAX_NEW_TOKENS):
        logits = model(torch.tensor([ids])).logits[0, -1]
        best = logits.topk(2)
        margins.append(round((best.values[0] - best.values[1]).item(), 5))
        token = int(best.indices[0])
        if token == end:
            return ids[len(prompt_ids) :], margins, "EOS"
        ids.append(token)
    return ids[len(prompt_ids) :], margins, "MAX_NEW_TOKENS"


def record(model, tokenizer: tokenizers.Tokenizer, prompt: str) -> dict:
    end = model.config.eos_token_id
    prompt_ids = tokenizer.encode(prompt).ids
    token_ids, margins, finish = greedy(model, prompt_ids, end)
    if any(token >= tokenizer.get_vocab_size() for token in token_ids):
        raise SystemExit(f"a padding row of the head was chosen after {prompt!r}")
    return {
        "prompt": prompt,
        "prompt_token_ids": prompt_ids,
        "token_ids": token_ids,
        "text": tokenizer.decode(token_ids, skip_special_tokens=False),
        "finish": finish,
        "min_margin": min(margins),
        "margins": margins,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("deploy/models/phi-nano"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/golden/phi_nano_greedy.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
    model = transformers.PhiForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    records = [record(model, tokenizer, prompt) for prompt in CANDIDATES]
    kept = [r for r in records if r["min_margin"] >= MIN_MARGIN][:PROMPTS_WANTED]
    if len(kept) < PROMPTS_WANTED:
        raise SystemExit(f"only {len(kept)} prompts without a near tie: add candidates")
    golden = {
        "about": "Greedy text by transformers' PhiForCausalLM, weights bf16 upcast to fp32, no sampling, no penalties. "
        "Generation ends at EOS, which is not in token_ids or text, or after max_new_tokens. margins: highest "
        "minus second highest logit at each step, the EOS step included.",
        "command": COMMAND,
        "versions": {
            "torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "model_sha256": hashlib.sha256((options.model / "model.safetensors").read_bytes()).hexdigest(),
        "max_new_tokens": MAX_NEW_TOKENS,
        "eos_token_id": model.config.eos_token_id,
        "prompts": kept,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(kept)} prompts, smallest margin {min(r['min_margin'] for r in kept)}")


if __name__ == "__main__":
    main()
