"""Calls that must fail, and the content of their errors."""

from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status  # type: ignore[import-untyped]


class Refused:
    """The decoded error of a call."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code = error.code()
        self.details = error.details()
        self.fields: list[str] = []
        status = rpc_status.from_call(error)
        self.reasons: list[str] = []
        self.retry_after_s = 0.0
        for detail in status.details if status else ():
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                self.reasons.append(f"{info.domain}/{info.reason}")
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Unpack(bad):
                self.fields += [violation.field for violation in bad.field_violations]


async def refusal(call: Awaitable[Any]) -> Refused:
    """The error with which `call` must fail."""
    with pytest.raises(aio.AioRpcError) as failure:
        await call
    return Refused(failure.value)


def assert_bad_fields(refused: Refused, fields: Sequence[str]) -> None:
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.fields == [*fields]
    assert refused.reasons == ["daca/INVALID_FIELD"]


async def send_bytes(channel: aio.Channel, path: str, data: bytes) -> bytes:
    """Call a method without the generated code."""
    call: Any = channel.unary_unary(path)
    answer: bytes = await call(data)
    return answer
