"""A client of phi-serve's gRPC services, from the .proto files alone."""

import functools
import pathlib
import subprocess
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTOS = ("phi/v1/generation.proto", "google/rpc/status.proto", "google/rpc/error_details.proto", "grpc/health/v1/health.proto")
DETAILS_KEY = "grpc-status-details-bin"


def descriptor_set(protos=PROTOS):
    """protoc's FileDescriptorSet of the repository's protos and what they import."""
    with tempfile.NamedTemporaryFile() as out:
        command = ["protoc", f"--proto_path={ROOT / 'proto'}", "--include_imports", f"--descriptor_set_out={out.name}", *protos]
        subprocess.run(command, check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())


@functools.lru_cache(maxsize=None)
def _factory():
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_set().file:
        pool.Add(file)
    return pool, message_factory.MessageFactory(pool)


@functools.lru_cache(maxsize=None)
def message_class(name):
    pool, factory = _factory()
    return factory.GetPrototype(pool.FindMessageTypeByName(name))


def enum_name(name, value):
    return _factory()[0].FindEnumTypeByName(name).values_by_number[value].name


def enum_value(name, value_name):
    return _factory()[0].FindEnumTypeByName(name).values_by_name[value_name].number


def finish_name(finish):
    """"EOS", "MAX_NEW_TOKENS", ... of a Finish message."""
    return enum_name("phi.v1.FinishReason", finish.reason).removeprefix("FINISH_REASON_")


class Refusal:
    """What a failed call says, beside its code and message."""

    def __init__(self, error):
        self.code = error.code()
        self.message = error.details()
        self.metadata = dict(error.trailing_metadata() or ())
        self.initial_metadata = dict(error.initial_metadata() or ()) if hasattr(error, "initial_metadata") else {}
        self.reason, self.domain, self.fields = None, None, []
        self.retry_seconds = None  # RetryInfo's
        status = message_class("google.rpc.Status").FromString(self.metadata.get(DETAILS_KEY, b""))
        for detail in status.details:
            name = detail.type_url.rpartition("/")[2]
            body = message_class(name).FromString(detail.value)
            if name == "google.rpc.ErrorInfo":
                self.reason, self.domain = body.reason, body.domain
            elif name == "google.rpc.BadRequest":
                self.fields = [violation.field for violation in body.field_violations]
            elif name == "google.rpc.RetryInfo":
                self.retry_seconds = body.retry_delay.ToNanoseconds() / 1e9

    def __repr__(self):
        return f"{self.code.name} {self.reason} {self.fields} {self.message!r}"


class _BearerToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds the token to each call. (grpcio's own call credentials refuse a channel without TLS.)"""

    def __init__(self, token):
        self.header = ("authorization", f"Bearer {token}")

    def _add(self, continuation, details, request):
        return continuation(details._replace(metadata=[*(details.metadata or ()), self.header]), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _add


class Client:
    """Calls of phi.v1.TextGeneration and health on one channel.

    `tls_ca`: PEM bytes of the CA that the server is checked against; without it the channel is plain. `token`: a bearer token.
    `certificate`: the client's own (certificate, private key), as PEM bytes.
    """

    def __init__(self, address, tls_ca=None, token=None, certificate=(None, None)):
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own: channels alike would share one
        if tls_ca is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            own, key = certificate
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(tls_ca, key, own), options)
        if token is not None:
            self.channel = grpc.intercept_channel(self.channel, _BearerToken(token))

    def close(self):
        self.channel.close()

    def _unary(self, method, request_type, response_type, service="phi.v1.TextGeneration"):
        return self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=message_class(response_type).FromString,
        )

    @staticmethod
    def request(prompt, request_id="", model="", **parameters):
        """A GenerateRequest; `prompt` is a text or a list of ids."""
        request = message_class("phi.v1.GenerateRequest")(request_id=request_id, model=model)
        if isinstance(prompt, str):
            request.text = prompt
        elif prompt is not None:
            request.token_ids.ids.extend(prompt)
        for name, value in parameters.items():
            if isinstance(value, dict):
                getattr(request.parameters, name).update(value)
            elif isinstance(value, (list, tuple)):
                getattr(request.parameters, name).extend(value)
            elif name == "time_limit":
                request.parameters.time_limit.FromNanoseconds(int(value * 1e9))
            else:
                setattr(request.parameters, name, value)
        return request

    def generate(self, prompt, timeout=60, **fields):
        request = prompt if isinstance(prompt, bytes) else self.request(prompt, **fields)
        call = self._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")
        return call(request, timeout=timeout)

    def generate_call(self, prompt, timeout=60, **fields):
        """(response, call), for a call's metadata."""
        call = self._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")
        return call.with_call(self.request(prompt, **fields), timeout=timeout)

    def stream(self, prompt, timeout=60, **fields):
        return self.stream_bytes(self.request(prompt, **fields).SerializeToString(), timeout)

    def stream_bytes(self, request, timeout=60):
        """GenerateStream of any bytes."""
        parse = message_class("phi.v1.GenerateStreamResponse").FromString
        return self.channel.unary_stream("/phi.v1.TextGeneration/GenerateStream", response_deserializer=parse)(request, timeout=timeout)

    def refusal(self, prompt, **fields):
        """The Refusal of a call that must fail."""
        try:
            answer = self.generate(prompt, **fields)
        except grpc.RpcError as error:
            return Refusal(error)
        raise AssertionError(f"was answered: {answer}")

    def refusal_or_none(self, prompt, **fields):
        """The Refusal of a call that may fail."""
        try:
            self.generate(prompt, **fields)
        except grpc.RpcError as error:
            return Refusal(error)
        return None

    def tokenize(self, text):
        call = self._unary("Tokenize", "phi.v1.TokenizeRequest", "phi.v1.TokenizeResponse")
        return call(message_class("phi.v1.TokenizeRequest")(text=text), timeout=30)

    def detokenize(self, ids):
        call = self._unary("Detokenize", "phi.v1.DetokenizeRequest", "phi.v1.DetokenizeResponse")
        return call(message_class("phi.v1.DetokenizeRequest")(token_ids=ids), timeout=30)

    def model_info(self):
        call = self._unary("GetModelInfo", "phi.v1.GetModelInfoRequest", "phi.v1.GetModelInfoResponse")
        return call(message_class("phi.v1.GetModelInfoRequest")(), timeout=30)

    def health(self, service="", timeout=10):
        """"SERVING", "NOT_SERVING", ... of a name."""
        call = self._unary("Check", "grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse", "grpc.health.v1.Health")
        answer = call(message_class("grpc.health.v1.HealthCheckRequest")(service=service), timeout=timeout)
        return enum_name("grpc.health.v1.HealthCheckResponse.ServingStatus", answer.status)


def join(messages):
    """The whole of a stream: (text, token ids, log-probabilities, last message, first message)."""
    messages = list(messages)
    text = "".join(message.text for message in messages)
    ids = [i for message in messages for i in message.token_ids]
    logprobs = [entry for message in messages for entry in message.logprobs]
    return text, ids, logprobs, messages[-1], messages[0]
