#!/usr/bin/env python3
"""Writes what Hugging Face tokenizers answer, for tests/unit/text to compare with.

    tools/golden/tokenizer_vectors.py --tokenizer DIR/tokenizer.json --out tests/golden/tokenizer

Needs the Python package `tokenizers` (the stored files were made with 0.23.3). Seeded: the same
tokenizer.json and version give the same files, byte for byte. Files:

  tokenizer.json.gz    the tokenizer itself, unchanged
  encode.jsonl.gz      [text, [ids]] a line, special tokens in the text encoded as text
  decode.jsonl.gz      [[ids], text] a line, special tokens kept
  unicode_classes.txt  FIRST LAST CLASS a line (hexadecimal, inclusive): the letters (L), numbers
                       (N) and spaces (S) of the pre-tokenizer's regular expression, found by
                       asking it for every character
"""

import argparse
import gzip
import json
import pathlib
import random

import tokenizers
from tokenizers.pre_tokenizers import ByteLevel

TEXTS_PER_KIND = 2500
DECODES = 1500
MAX_CODE_POINT = 0x10FFFF
PLANES = (0, 0, 0, 1, 1, 2, 3, 4, 9, 13, 14, 15, 16)
NAMES = "i j n x self result value node count items key data total primes is_valid head_dim _x Cafe".split()
WORDS = "print all primes between 1 and n Return the sum of a list, e.g. [1, 2]; it's we'll don't".split()
SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\ufeff"
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'x", "'", "''", "\u2019s", " 's"]
SPECIALS = ["<|endoftext|>", "<|endof", "text|>", "<|", "|>", "<|endoftext|><|endoftext|>"]
SCRIPTS = ["h\u00e9llo", "\u4f60\u597d", "\u043c\u0438\u0440", "\u0627\u0644", "\u0939\u093f", "\U0001f600",
           "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "e\u0301", "\u00bd", "\u0967\u0968",
           "\u2167", "\ufb01", "\U0001d7d8", "\U00020000", "\u1100\u1161"]


def unicode_classes():
    """The class of every character, as the pre-tokenizer's own regular expression sees it."""
    split = ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str
    ranges = []
    for code in range(MAX_CODE_POINT + 1):
        if 0xD800 <= code <= 0xDFFF:
            continue
        # A character joins a word exactly if it is of the word's class.
        joins = [name for name, word in (("L", "a"), ("N", "1"), ("O", "!")) if len(split(word + chr(code))) == 1]
        assert len(joins) <= 1
        name = joins[0] if joins else "S"
        if ranges and ranges[-1][2] == name and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, name])
    return [entry for entry in ranges if entry[2] != "O"]


def character(rng, low, high):
    code = rng.randint(low, high)
    # Surrogates are no characters; the private use area behind them takes their place.
    return chr(code + 0x800 if 0xD800 <= code <= 0xDFFF else code)


class Texts:
    """Generated texts of many kinds; `edges` are the characters where a Unicode class begins or ends."""

    def __init__(self, rng, tokenizer, edges):
        self.rng, self.tokenizer, self.edges = rng, tokenizer, edges
        self.kinds = [self.code, self.code, self.plane, self.spaces, self.controls, self.specials,
                      self.class_edges, self.tokens, self.mixed]

    def expression(self):
        pick = self.rng.choice
        left, right = pick(NAMES), pick(NAMES + [str(self.rng.randint(0, 10 ** self.rng.randint(1, 12))), '"%d"', "'s'"])
        return f"{left} {pick(['+', '%', '==', '//', '**', '<=', ':=', '-'])} {right}"

    def code(self):
        rng, lines, depth = self.rng, [], 0
        unit = rng.choice(["    ", "    ", "  ", "\t", "        "])
        for _ in range(rng.randint(1, 6)):
            line = rng.choice([
                lambda: f"def {rng.choice(NAMES)}({', '.join(rng.sample(NAMES, rng.randint(0, 3)))}):",
                lambda: f"for {rng.choice(NAMES)} in range({self.expression()}):",
                lambda: f"if not {self.expression()}:",
                lambda: f"return {self.expression()}  # {' '.join(rng.sample(WORDS, 3))}",
                lambda: f'"""{" ".join(rng.sample(WORDS, rng.randint(1, 6)))}\n{unit * depth}"""',
                lambda: f"{rng.choice(NAMES)}[{rng.randint(0, 99)}] = [{self.expression()}]",
                lambda: "",
            ])()
            lines.append(unit * depth + line + rng.choice(["", "", "", " ", "   "]))
            depth = min(depth + 1, 9) if line.endswith(":") else rng.randint(0, depth)
        return rng.choice(["\n", "\n", "\r\n"]).join(lines) + rng.choice(["", "\n", "\n\n"])

    def plane(self):
        plane = self.rng.choice(PLANES) << 16
        width = self.rng.choice([0x7F, 0x3FF, 0xFFFF])
        low = plane + self.rng.randint(0, 0xFFFF - width)
        return "".join(self.rng.choice(["", "", " ", "a", "1"]) + character(self.rng, low, low + width)
                       for _ in range(self.rng.randint(1, 12)))

    def spaces(self):
        return "".join(self.rng.choice([" ", " ", "\t", "\n", self.rng.choice(SPACES)]) * self.rng.choice([1, 1, 2, 3, 8, 9, 10, 31, 32, 70])
                       + self.rng.choice(["", "", "x", "1", ".", "\u00e9"]) for _ in range(self.rng.randint(1, 5)))

    def controls(self):
        return "".join(self.rng.choice([character(self.rng, 0, 0x20), character(self.rng, 0x7F, 0xA0), "\0", "a", " ",
                                        character(self.rng, 0x2000, 0x206F)]) for _ in range(self.rng.randint(1, 16)))

    def specials(self):
        return "".join(self.rng.choice(SPECIALS + [" ", "  ", "\n", "x"]) for _ in range(self.rng.randint(1, 5)))

    def class_edges(self):
        return "".join(self.rng.choice(["", " ", "a", "7", "-", "  "]) + self.rng.choice(self.edges)
                       for _ in range(self.rng.randint(1, 8)))

    def tokens(self):
        size = self.tokenizer.get_vocab_size()
        return self.tokenizer.decode([self.rng.randrange(size) for _ in range(self.rng.randint(1, 10))],
                                     skip_special_tokens=False)

    def mixed(self):
        parts = [lambda: self.rng.choice(WORDS), lambda: self.rng.choice(SCRIPTS), lambda: self.rng.choice(CONTRACTIONS),
                 lambda: self.rng.choice(SPACES), lambda: self.rng.choice(NAMES), lambda: " ",
                 lambda: character(self.rng, 0x21, 0x7E) * self.rng.choice([1, 1, 2, 40]),
                 lambda: str(self.rng.randint(0, 10 ** 9)), lambda: character(self.rng, 0, MAX_CODE_POINT)]
        return "".join(self.rng.choice(parts)() for _ in range(self.rng.randint(1, 12)))

    def all(self):
        return ["", *(kind() for kind in self.kinds for _ in range(TEXTS_PER_KIND))]


def write_gzip(path, data):
    # No name and no time stamp in the file, so that the same data gives the same file.
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))


def write_lines(path, rows):
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    write_gzip(path, "".join(lines).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    tokenizer = tokenizers.Tokenizer.from_file(str(arguments.tokenizer))
    tokenizer.encode_special_tokens = True
    classes = unicode_classes()
    (arguments.out / "unicode_classes.txt").write_text("".join(f"{a:X} {b:X} {name}\n" for a, b, name in classes))

    rng = random.Random(arguments.seed)
    edges = sorted({chr(code) for first, last, _ in classes for code in (first - 1, first, last, last + 1)
                    if 0 <= code <= MAX_CODE_POINT and not 0xD800 <= code <= 0xDFFF})
    texts = list(dict.fromkeys(Texts(rng, tokenizer, edges).all()))
    encodings = tokenizer.encode_batch(texts, add_special_tokens=True)
    write_lines(arguments.out / "encode.jsonl.gz", ([text, e.ids] for text, e in zip(texts, encodings)))

    # Ids below 256 are single bytes in GPT-2's vocabulary: half of the sequences are broken UTF-8.
    size = tokenizer.get_vocab_size()
    sequences = [[rng.randrange(rng.choice([256, size])) for _ in range(rng.randint(0, 12))] for _ in range(DECODES)]
    write_lines(arguments.out / "decode.jsonl.gz",
                ([ids, tokenizer.decode(ids, skip_special_tokens=False)] for ids in sequences))
    write_gzip(arguments.out / "tokenizer.json.gz", arguments.tokenizer.read_bytes())
    print(f"tokenizers {tokenizers.__version__}: {len(texts)} texts, {DECODES} decodes, {len(classes)} class ranges")


if __name__ == "__main__":
    main()
