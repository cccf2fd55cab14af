"""Packs tokenized documents into rows of one length, whole documents only, with little padding."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy
from tokenizers import Tokenizer

OPEN_ROWS = 48  # a document goes to the first of these rows with room for it
NO_TARGET = -100  # what cross_entropy ignores


@dataclasses.dataclass(frozen=True)
class Rows:
    """inputs, targets, document_ids: int64 [rows, length]; padding has NO_TARGET and its own id."""

    inputs: numpy.ndarray
    targets: numpy.ndarray
    document_ids: numpy.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


def tokenize(path: pathlib.Path, tokenizer: Tokenizer, end_of_text: int) -> list[numpy.ndarray]:
    """Each line of a jsonl file of strings, as ids that end with end_of_text."""
    with path.open(encoding="utf-8") as lines:
        texts = [json.loads(line) for line in lines]
    encodings = tokenizer.encode_batch(texts)
    return [numpy.array(encoding.ids + [end_of_text], dtype=numpy.int16) for encoding in encodings]


def pack(documents: list[numpy.ndarray], length: int, rng: numpy.random.Generator) -> Rows:
    """Rows start with a document's start; longer documents are cut to the length."""
    closed: list[list[numpy.ndarray]] = []
    open_rows: list[list[numpy.ndarray]] = []
    room: list[int] = []
    for index in rng.permutation(len(documents)):
        document = documents[index][:length]
        need = len(document)
        place = next((i for i, free in enumerate(room) if free >= need), None)
        if place is None:
            if len(open_rows) == OPEN_ROWS:
                fullest = room.index(min(room))
                closed.append(open_rows.pop(fullest))
                room.pop(fullest)
            open_rows.append([])
            room.append(length)
            place = len(room) - 1
        open_rows[place].append(document)
        room[place] -= need
    return _fill(closed + open_rows, length, rng)


def _fill(packed: list[list[numpy.ndarray]], length: int, rng: numpy.random.Generator) -> Rows:
    inputs = numpy.zeros((len(packed), length), dtype=numpy.int64)
    targets = numpy.full((len(packed), length), NO_TARGET, dtype=numpy.int64)
    document_ids = numpy.full((len(packed), length), -1, dtype=numpy.int64)
    for row, documents in enumerate(packed):
        at = 0
        for number, document in enumerate(documents):
            end = at + len(document)
            inputs[row, at:end] = document
            targets[row, at : end - 1] = document[1:]
            document_ids[row, at:end] = number
            at = end
    order = rng.permutation(len(packed))
    return Rows(inputs[order], targets[order], document_ids[order])
