"""Domain errors as gRPC and HTTP statuses: the one table of both."""

import asyncio
import logging
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status  # type: ignore[import-untyped]

from daca_shared import domain
from daca_shared.observe.requests import note_reason, request_metadata

log = logging.getLogger(__name__)

# The `domain` of every google.rpc.ErrorInfo, in which its `reason` has a meaning.
ERROR_DOMAIN = "daca"

# HTTP statuses as in google/rpc/code.proto, except for FAILED_PRECONDITION (there 400): here it
# means that the service is set up wrongly, which is not the caller's fault.
STATUSES: dict[type[domain.DomainError], tuple[StatusCode, int]] = {
    domain.InvalidInput: (StatusCode.INVALID_ARGUMENT, 400),
    domain.NotFound: (StatusCode.NOT_FOUND, 404),
    domain.Conflict: (StatusCode.ABORTED, 409),
    domain.Unauthenticated: (StatusCode.UNAUTHENTICATED, 401),
    domain.Forbidden: (StatusCode.PERMISSION_DENIED, 403),
    domain.Unavailable: (StatusCode.UNAVAILABLE, 503),
    domain.TimedOut: (StatusCode.DEADLINE_EXCEEDED, 504),
    domain.LimitReached: (StatusCode.RESOURCE_EXHAUSTED, 429),
    domain.Misconfigured: (StatusCode.FAILED_PRECONDITION, 503),
    domain.Failed: (StatusCode.INTERNAL, 500),
}

# All other codes are the caller's fault, not the server's.
FAULTS = {
    StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS,
    StatusCode.FAILED_PRECONDITION,  # with us, wrong settings
}  # fmt: skip

INTERNAL_MESSAGE = "Internal error; the service's log has the cause"

# A lazy alias, as the class is generic only for the type checker.
type Context = aio.ServicerContext[Any, Any]


def http_headers(error: domain.DomainError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, domain.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def grpc_status(error: domain.DomainError) -> tuple[StatusCode, str, Sequence[Any]]:
    """The arguments for `context.abort`, as grpc.aio has no `abort_with_status`: the error as a
    google.rpc.Status, with the standard details that apply to it."""
    code, _ = STATUSES[type(error)]
    status = status_pb2.Status(code=code.value[0], message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.code, domain=ERROR_DOMAIN))
    if isinstance(error, domain.InvalidInput):
        broken = [{"field": field, "description": rule} for field, rule in error.violations]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=broken))
    if error.retry_after_s is not None:
        delay = timedelta(seconds=error.retry_after_s)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return code, error.message, rpc_status.to_status(status).trailing_metadata


def final_status(context: Context, error: BaseException | None) -> StatusCode:
    """The status of a call whose handler has returned, or raised `error`."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        left_s = context.time_remaining()
        too_late = left_s is not None and left_s <= domain.MOMENT_S
        return StatusCode.DEADLINE_EXCEEDED if too_late else StatusCode.CANCELLED
    code = context.code() or StatusCode.OK
    return StatusCode.UNKNOWN if error is not None and code is StatusCode.OK else code


async def abort(context: Context, error: Exception, method: str) -> NoReturn:
    """End the call with the status of `error`; with INTERNAL if it isn't a domain error."""
    if isinstance(error, aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError) and context.code() is StatusCode.UNIMPLEMENTED:
        # The generated code's answer for a method that we don't implement.
        await context.abort(StatusCode.UNIMPLEMENTED, context.details())
    if not isinstance(error, domain.DomainError):
        log.error("%s failed unexpectedly", method, exc_info=error)
        error = domain.Failed(INTERNAL_MESSAGE, code="INTERNAL")
    note_reason(error.code)
    # These trailers replace all that were set before, so the request id is among them.
    code, details, trailers = grpc_status(error)
    await context.abort(code, details, (*request_metadata(), *trailers))
