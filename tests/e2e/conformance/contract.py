"""What a row of the table is made of, and the server that it is asked of."""

import dataclasses
import functools
import typing

import grpc
from phi_client import Client, Refusal, finish_name

PROMPT = "def add(a, b):\n    return a + b\n\n\ndef add(a, b):\n"
# Does not occur in any text of ours, so that a refusal that repeats a prompt is seen.
SECRET = "xyzzyplugh "
END_OF_TEXT = "<|endoftext|>"
PATIENCE = 240  # an answer to the end of the context, under a sanitizer on a busy machine
BOTH = ("Generate", "GenerateStream")


@dataclasses.dataclass(frozen=True)
class Refused:
    """The outcome of a call that must fail before it costs anything."""

    code: str
    reason: str | None  # None: an error of gRPC's own, which carries none
    field: str | None = None
    says: typing.Callable | None = None  # of a Server: words of the message


@dataclasses.dataclass(frozen=True)
class Answered:
    """The outcome of a call that must succeed; `check(server, answer)` asserts what the sentence says of the answer."""

    check: typing.Callable | None = None
    repeatable: bool = True  # whether the other method gives the same answer


@dataclasses.dataclass(frozen=True)
class Row:
    """One sentence of docs/api.md and the request that shows it.

    `ask`: what is asked, as Client.request takes it, or bytes; or a function of the Server that gives it.
    """

    name: str
    sentence: str  # words of docs/api.md, as they stand there
    ask: typing.Any
    expected: Refused | Answered
    methods: tuple = BOTH


@dataclasses.dataclass(frozen=True)
class CallRow:
    """A sentence about other calls: `run(server)` makes them and asserts what it says."""

    name: str
    sentence: str
    run: typing.Callable


@dataclasses.dataclass
class Sample:
    text: str = ""
    ids: list = dataclasses.field(default_factory=list)
    logprobs: list = dataclasses.field(default_factory=list)
    finish: typing.Any = None

    @property
    def reason(self):
        return finish_name(self.finish)


@dataclasses.dataclass
class Answer:
    """An answer of either method: its samples by index, header, summary and initial metadata."""

    samples: list
    header: typing.Any
    summary: typing.Any
    metadata: dict
    asked: typing.Any = None

    @property
    def first(self):
        return self.samples[0]


class Server:
    """The server under test: its calls, and what it says of itself. `connect()`: one more Client, on a connection of its own."""

    def __init__(self, connect):
        self.connect = connect
        self.client = connect()

    @functools.cached_property
    def info(self):
        return self.client.model_info()

    @functools.cached_property
    def limits(self):
        return {limit.field: limit for limit in self.info.limits}

    @property
    def context(self):
        return self.info.context_tokens

    @property
    def vocabulary(self):
        return self.info.vocabulary_tokens

    @functools.cached_property
    def prompt_ids(self):
        return list(self.client.tokenize(PROMPT).token_ids)

    @functools.cached_property
    def end_of_text(self):
        """The id of <|endoftext|>, which no text has: found by halving the vocabulary."""
        low, high = 0, self.vocabulary
        while high - low > 1:
            middle = (low + high) // 2
            inside = END_OF_TEXT in self.client.detokenize(range(middle, high)).text
            low, high = (middle, high) if inside else (low, middle)
        return low

    def token_of(self, text):
        """The last token of a text, such as one that a bias is to force."""
        return self.client.tokenize(text).token_ids[-1]

    def resolve(self, ask):
        """The request of a row: keyword arguments of Client.request with a prompt, or bytes."""
        asked = ask(self) if callable(ask) else ask
        return asked if isinstance(asked, bytes) else {"prompt": PROMPT, **asked}

    def generate(self, ask, timeout=PATIENCE):
        """The Answer of Generate; Refusal where it fails."""
        request = self._bytes(ask)
        call = self.client._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")
        try:
            response, rpc = call.with_call(request, timeout=timeout)
        except grpc.RpcError as error:
            return Refusal(error)
        samples = [Sample(c.text, list(c.token_ids), list(c.logprobs), c.finish) for c in response.completions]
        assert [c.index for c in response.completions] == list(range(len(samples)))
        return Answer(samples, response.header, response.summary, dict(rpc.initial_metadata()), ask)

    def stream(self, ask, timeout=PATIENCE):
        """The Answer of GenerateStream, joined; Refusal where it fails. Asserts the order of the messages."""
        call = self.client.stream_bytes(self._bytes(ask), timeout=timeout)
        try:
            messages = list(call)
        except grpc.RpcError as error:
            refusal = Refusal(error)
            refusal.initial_metadata = dict(call.initial_metadata())
            return refusal
        return join_stream(messages, dict(call.initial_metadata()), ask)

    def ask(self, method, ask, **options):
        return self.generate(ask, **options) if method == "Generate" else self.stream(ask, **options)

    def answer(self, **parameters):
        """The Answer of a Generate call that has to succeed."""
        answer = self.generate({"prompt": PROMPT, **parameters})
        assert isinstance(answer, Answer), answer
        return answer

    def first(self, **parameters):
        return self.answer(**parameters).first

    @staticmethod
    def _bytes(ask):
        return ask if isinstance(ask, bytes) else Client.request(**ask).SerializeToString()


def join_stream(messages, metadata, ask):
    """What the messages of a stream add up to, after a look at what each of them may hold."""
    assert messages[0].HasField("header") and not any(message.HasField("header") for message in messages[1:])
    assert messages[-1].HasField("summary") and not any(message.HasField("summary") for message in messages[:-1])
    samples = {}
    for message in messages:
        sample = samples.setdefault(message.index, Sample())
        assert sample.finish is None, f"a message after the end of sample {message.index}"
        sample.text += message.text
        sample.ids += message.token_ids
        sample.logprobs += message.logprobs
        if message.HasField("finish"):
            sample.finish = message.finish
    assert sorted(samples) == list(range(len(samples))) and all(sample.finish for sample in samples.values())
    return Answer([samples[index] for index in sorted(samples)], messages[0].header, messages[-1].summary, metadata, ask)
