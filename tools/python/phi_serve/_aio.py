"""The asyncio client."""

from __future__ import annotations

from types import TracebackType
from typing import AsyncIterator, Optional, Sequence, Type

import grpc
import grpc.aio
from phi.v1 import generation_pb2 as pb
from phi.v1 import generation_pb2_grpc as stubs
from typing_extensions import Unpack

from phi_serve._errors import PhiError
from phi_serve._types import OPTIONS, Answer, Delta, Parameters, Prompt, make_request, read_answer, read_delta, with_token


class AsyncClient:
    """As Client, for asyncio: `async with AsyncClient(address) as client: async for delta in client.stream(...)`."""

    def __init__(
        self, address: str, *, credentials: Optional[grpc.ChannelCredentials] = None, token: Optional[str] = None, timeout: float = 60.0
    ) -> None:
        self.timeout = timeout
        credentials = with_token(credentials, token)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
        self._stub = stubs.TextGenerationStub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, _: Optional[Type[BaseException]], __: Optional[BaseException], ___: Optional[TracebackType]) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close(None)

    async def generate(
        self, prompt: Prompt, *, request_id: str = "", model: str = "", timeout: Optional[float] = None, **parameters: Unpack[Parameters]
    ) -> Answer:
        request = make_request(prompt, request_id, model, parameters)
        try:
            return read_answer(await self._stub.Generate(request, timeout=self.timeout if timeout is None else timeout))
        except grpc.aio.AioRpcError as error:
            raise PhiError(error) from error

    async def stream(
        self, prompt: Prompt, *, request_id: str = "", model: str = "", timeout: Optional[float] = None, **parameters: Unpack[Parameters]
    ) -> AsyncIterator[Delta]:
        """Leaving the loop early and closing the iterator (contextlib.aclosing) cancels the call."""
        call = self._stub.GenerateStream(make_request(prompt, request_id, model, parameters), timeout=self.timeout if timeout is None else timeout)
        try:
            async for message in call:
                yield read_delta(message)
        except grpc.aio.AioRpcError as error:
            raise PhiError(error) from error
        finally:
            call.cancel()

    async def tokenize(self, text: str) -> list[int]:
        try:
            return list((await self._stub.Tokenize(pb.TokenizeRequest(text=text), timeout=self.timeout)).token_ids)
        except grpc.aio.AioRpcError as error:
            raise PhiError(error) from error

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        try:
            text: str = (await self._stub.Detokenize(pb.DetokenizeRequest(token_ids=token_ids), timeout=self.timeout)).text
            return text
        except grpc.aio.AioRpcError as error:
            raise PhiError(error) from error

    async def model_info(self) -> pb.GetModelInfoResponse:
        try:
            info: pb.GetModelInfoResponse = await self._stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=self.timeout)
            return info
        except grpc.aio.AioRpcError as error:
            raise PhiError(error) from error
