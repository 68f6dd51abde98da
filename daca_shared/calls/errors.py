"""Domain errors as gRPC and HTTP statuses."""

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
from daca_shared.observe.requests import request_metadata

log = logging.getLogger(__name__)

# The `domain` of every google.rpc.ErrorInfo: whose `reason` it is.
ERROR_DOMAIN = "daca"

# HTTP statuses are those of google/rpc/code.proto, but for FAILED_PRECONDITION (there 400): with
# us it means that the service is set up wrongly, which is not the caller's fault.
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

# Once set, grpc.aio may have a call's status as a number.
_CODES = {known: code for code in StatusCode for known in (code, code.value[0])}

INTERNAL_MESSAGE = "Internal error; the service's log has the cause"

# Generic to the type checker only, hence an alias, which is never evaluated at run time.
type Context = aio.ServicerContext[Any, Any]


def http_status(error: domain.DomainError) -> int:
    return STATUSES[type(error)][1]


def http_headers(error: domain.DomainError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, domain.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def status_of(error: domain.DomainError) -> status_pb2.Status:
    """The rich status of a domain error, with the details of google.rpc that apply to it."""
    number, _ = STATUSES[type(error)][0].value
    status = status_pb2.Status(code=number, message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.code, domain=ERROR_DOMAIN))
    if isinstance(error, domain.InvalidInput):
        bad_request = error_details_pb2.BadRequest()
        for field, description in error.violations:
            bad_request.field_violations.add(field=field, description=description)
        status.details.add().Pack(bad_request)
    if error.retry_after_s is not None:
        delay = timedelta(seconds=error.retry_after_s)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def grpc_status(error: domain.DomainError) -> tuple[StatusCode, str, Sequence[Any]]:
    """What a call ends with: grpc.aio has no `abort_with_status`."""
    status = rpc_status.to_status(status_of(error))
    return status.code, status.details, status.trailing_metadata


def final_status(context: Context, error: BaseException | None) -> StatusCode:
    """The status with which a call ends whose handler returned, or raised `error`."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        left_s = context.time_remaining()
        too_late = left_s is not None and left_s <= domain.MOMENT_S
        return StatusCode.DEADLINE_EXCEEDED if too_late else StatusCode.CANCELLED
    code = _CODES.get(context.code(), StatusCode.OK)
    return StatusCode.UNKNOWN if error is not None and code is StatusCode.OK else code


async def abort(context: Context, error: Exception, method: str) -> NoReturn:
    """End the call with the status of `error`, or with INTERNAL if it is no domain error."""
    if isinstance(error, aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError) and context.code() is StatusCode.UNIMPLEMENTED:
        # The generated code's own answer for a method of the contract that we don't implement.
        await context.abort(StatusCode.UNIMPLEMENTED, context.details())
    if not isinstance(error, domain.DomainError):
        log.error("%s failed unexpectedly", method, exc_info=error)
        error = domain.Failed(INTERNAL_MESSAGE, code="INTERNAL")
    # These trailers replace all, the request's own, too.
    code, details, trailers = grpc_status(error)
    await context.abort(code, details, (*request_metadata(), *trailers))
