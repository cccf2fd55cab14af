"""The blocking client."""

from __future__ import annotations

from types import TracebackType
from typing import Iterator, Optional, Sequence, Type

import grpc
from phi.v1 import generation_pb2 as pb
from phi.v1 import generation_pb2_grpc as stubs
from typing_extensions import Unpack

from phi_serve._errors import PhiError
from phi_serve._types import OPTIONS, Answer, Delta, Parameters, Prompt, make_request, read_answer, read_delta, with_token


class Client:
    """Calls one address, such as "localhost:50051" or "dns:///phi-serve-headless:50051". Thread-safe; made once and kept.

    credentials: grpc.ssl_channel_credentials(...) for TLS. token: sent as a bearer token, with TLS only. timeout: seconds that a call may
    take, unless it says otherwise.
    """

    def __init__(
        self, address: str, *, credentials: Optional[grpc.ChannelCredentials] = None, token: Optional[str] = None, timeout: float = 60.0
    ) -> None:
        self.timeout = timeout
        credentials = with_token(credentials, token)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self._stub = stubs.TextGenerationStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, _: Optional[Type[BaseException]], __: Optional[BaseException], ___: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def generate(
        self, prompt: Prompt, *, request_id: str = "", model: str = "", timeout: Optional[float] = None, **parameters: Unpack[Parameters]
    ) -> Answer:
        """The whole answer."""
        request = make_request(prompt, request_id, model, parameters)
        try:
            return read_answer(self._stub.Generate(request, timeout=self.timeout if timeout is None else timeout))
        except grpc.RpcError as error:
            raise PhiError(error) from error

    def stream(
        self, prompt: Prompt, *, request_id: str = "", model: str = "", timeout: Optional[float] = None, **parameters: Unpack[Parameters]
    ) -> Iterator[Delta]:
        """The answer as it grows. Leaving the loop early cancels the call."""
        call = self._stub.GenerateStream(make_request(prompt, request_id, model, parameters), timeout=self.timeout if timeout is None else timeout)
        try:
            for message in call:
                yield read_delta(message)
        except grpc.RpcError as error:
            raise PhiError(error) from error
        finally:
            call.cancel()  # type: ignore[no-untyped-call]

    def tokenize(self, text: str) -> list[int]:
        try:
            return list(self._stub.Tokenize(pb.TokenizeRequest(text=text), timeout=self.timeout).token_ids)
        except grpc.RpcError as error:
            raise PhiError(error) from error

    def detokenize(self, token_ids: Sequence[int]) -> str:
        try:
            text: str = self._stub.Detokenize(pb.DetokenizeRequest(token_ids=token_ids), timeout=self.timeout).text
            return text
        except grpc.RpcError as error:
            raise PhiError(error) from error

    def model_info(self) -> pb.GetModelInfoResponse:
        try:
            info: pb.GetModelInfoResponse = self._stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=self.timeout)
            return info
        except grpc.RpcError as error:
            raise PhiError(error) from error
