"""Trains phi-nano's tokenizer: byte-level BPE with CodeGen's pre-tokenizer, in CodeGen's file layout."""

from __future__ import annotations

import argparse
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"
BASE_VOCABULARY = 1984  # with END_OF_TEXT as its last id, as in CodeGen's tokenizer
SPACE_RUNS = range(24, 1, -1)
TAB_RUNS = range(4, 1, -1)


def train(texts: list[str]) -> Tokenizer:
    """Merges are learned on text without its space runs, which are tokens of their own."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = (line.strip() for text in texts for line in text.replace("  ", "\n").split("\n"))
    base.train_from_iterator((piece for piece in pieces if piece), trainer)
    model = json.loads(base.to_str())["model"]
    model["vocab"][END_OF_TEXT] = len(model["vocab"])
    vocabulary = {token: index for token, index in sorted(model["vocab"].items(), key=lambda item: item[1])}
    merges = [tuple(merge) for merge in model["merges"]]

    blank = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **blank))
    tokenizer.pre_tokenizer = base.pre_tokenizer
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken(" " * run, normalized=True) for run in SPACE_RUNS])
    tokenizer.add_tokens([AddedToken("\t" * run, normalized=True) for run in TAB_RUNS])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=pathlib.Path, required=True, help="train.jsonl of generate.py")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="tokenizer.json")
    parser.add_argument("--limit", type=int, default=30_000, help="texts to learn from")
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8") as lines:
        texts = [json.loads(line) for line, _ in zip(lines, range(options.limit))]
    tokenizer = train(texts)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(options.out))
    counts = [len(tokenizer.encode(text).ids) for text in texts[:2000]]
    print(f"{tokenizer.get_vocab_size()} ids, {sum(counts) / len(counts):.1f} tokens a text, longest {max(counts)}")


if __name__ == "__main__":
    main()
