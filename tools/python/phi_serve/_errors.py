"""Errors of the service, with what google.rpc's details say."""

from __future__ import annotations

from typing import Any, Optional

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

_DETAILS = "grpc-status-details-bin"


class PhiError(Exception):
    """A call that failed.

    code: the gRPC code. reason: of docs/api.md, such as "EMPTY_PROMPT"; None where gRPC itself failed. field: path of the field at
    fault. retry_after: seconds after which trying again makes sense. tokens_emitted: of a stream that broke off.
    """

    def __init__(self, error: Any) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details() or ""
        self.reason: Optional[str] = None
        self.field: Optional[str] = None
        self.retry_after: Optional[float] = None
        trailers = dict(error.trailing_metadata() or ())
        emitted = trailers.get("phi-tokens-emitted")
        self.tokens_emitted: Optional[int] = int(emitted) if emitted is not None else None
        self._read_details(trailers.get(_DETAILS, b""))
        where = f" ({self.field})" if self.field else ""
        super().__init__(f"{self.code.name}{f' {self.reason}' if self.reason else ''}{where}: {self.message}")

    def _read_details(self, details: bytes) -> None:
        for detail in status_pb2.Status.FromString(details).details:
            info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                self.field = bad.field_violations[0].field
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
