"""Domain errors as gRPC statuses, and gRPC statuses as HTTP ones."""

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode, aio

from daca_shared import domain
from daca_shared.calls.methods import Handler
from daca_shared.observe.requests import request_metadata

log = logging.getLogger(__name__)

# The `domain` of every google.rpc.ErrorInfo: whose `reason` it is.
ERROR_DOMAIN = "daca"

STATUS_CODES: dict[type[domain.DomainError], StatusCode] = {
    domain.InvalidInput: StatusCode.INVALID_ARGUMENT,
    domain.NotFound: StatusCode.NOT_FOUND,
    domain.Unauthenticated: StatusCode.UNAUTHENTICATED,
    domain.Forbidden: StatusCode.PERMISSION_DENIED,
    domain.Unavailable: StatusCode.UNAVAILABLE,
    domain.TimedOut: StatusCode.DEADLINE_EXCEEDED,
    domain.LimitReached: StatusCode.RESOURCE_EXHAUSTED,
    domain.Misconfigured: StatusCode.FAILED_PRECONDITION,
    domain.Failed: StatusCode.INTERNAL,
}

# As google/rpc/code.proto has them, but for FAILED_PRECONDITION (there 400): with us
# it means that the service is set up wrongly, which is not the caller's fault.
HTTP_STATUSES: dict[StatusCode, int] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 503,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}

_CODES: dict[Any, StatusCode] = {code.value[0]: code for code in StatusCode}

INTERNAL_MESSAGE = "Internal error; the service's log has the cause"

# Generic to the type checker only, hence an alias, which is never evaluated at run time.
type Context = aio.ServicerContext[Any, Any]
type _Behaviour = Callable[..., Any]


def http_status(error: domain.DomainError) -> int:
    """The HTTP status of a domain error."""
    return HTTP_STATUSES[STATUS_CODES[type(error)]]


def http_headers(error: domain.DomainError) -> dict[str, str]:
    """The HTTP headers that go with a domain error."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, domain.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def status_of(error: domain.DomainError) -> status_pb2.Status:
    """The rich status of a domain error, with `ErrorInfo` and, where they apply, `BadRequest`
    and `RetryInfo`."""
    name = STATUS_CODES[type(error)].name
    status = status_pb2.Status(code=code_pb2.Code.Value(name), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=name, domain=ERROR_DOMAIN)
    status.details.add().Pack(info)
    if isinstance(error, domain.InvalidInput):
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad_request.field_violations.add(
                field=violation.field, description=violation.description
            )
        status.details.add().Pack(bad_request)
    if error.retry_after_s is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after_s))
        status.details.add().Pack(retry_info)
    return status


def final_status(context: Context, error: BaseException | None) -> StatusCode:
    """The status with which a call ends whose handler returned, or raised `error`."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        left_s = context.time_remaining()
        too_late = left_s is not None and left_s <= 0
        return StatusCode.DEADLINE_EXCEEDED if too_late else StatusCode.CANCELLED
    # Once set, grpc.aio may have it as a number.
    code: Any = context.code()
    code = code if isinstance(code, StatusCode) else _CODES.get(code, StatusCode.OK)
    return StatusCode.UNKNOWN if error is not None and code is StatusCode.OK else code


def answering_errors(handler: Handler, method: str) -> Handler:
    """A handler that answers `handler`'s domain error with its status, and anything unexpected
    with INTERNAL and a fixed text; the cause goes to the log only."""
    decode, encode = _tolerant(handler.request_deserializer), handler.response_serializer
    unary, stream, duplex = handler.unary_unary, handler.unary_stream, handler.stream_stream
    if unary:
        return grpc.unary_unary_rpc_method_handler(_guard_unary(unary, method), decode, encode)
    # The standard health service's Watch is no generator; it minds its own errors.
    if inspect.isasyncgenfunction(stream):
        return grpc.unary_stream_rpc_method_handler(
            _guard_stream(stream, method, _readable), decode, encode
        )
    if inspect.isasyncgenfunction(duplex):
        return grpc.stream_stream_rpc_method_handler(
            _guard_stream(duplex, method, _each_readable), decode, encode
        )
    return handler


class _Unreadable:
    """Stands for a request that is no valid message, until a handler can refuse it:
    grpc itself would answer INTERNAL, as if the fault were ours."""


def _tolerant(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if decode is None:
        return None

    def tolerant(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return _Unreadable()

    return tolerant


def _guard_unary(behaviour: _Behaviour, method: str) -> _Behaviour:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await behaviour(_readable(request), context)
        except Exception as error:
            await abort(context, error, method)

    return guarded


def _guard_stream(behaviour: _Behaviour, method: str, readable: Callable[[Any], Any]) -> _Behaviour:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(readable(request), context):
                yield response
        except Exception as error:
            await abort(context, error, method)

    return guarded


def _readable(request: Any) -> Any:
    if isinstance(request, _Unreadable):
        raise domain.InvalidInput([], "The request is not a valid message of this method's type")
    return request


async def _each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


async def abort(context: Context, error: Exception, method: str) -> NoReturn:
    """End the call with the status of `error`, or with INTERNAL if it is no domain error."""
    if isinstance(error, aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError) and context.code() is StatusCode.UNIMPLEMENTED:
        # A method that the generated code has and we have not: so says the generated code.
        await context.abort(StatusCode.UNIMPLEMENTED, context.details())
    if not isinstance(error, domain.DomainError):
        log.error("%s failed unexpectedly", method, exc_info=error)
        await context.abort(StatusCode.INTERNAL, INTERNAL_MESSAGE)
    # grpc.aio has no abort_with_status(); this trailer is all that it would add. Trailers that
    # are there already would be lost.
    details = ("grpc-status-details-bin", status_of(error).SerializeToString())
    trailers = (*request_metadata(), details)
    await context.abort(STATUS_CODES[type(error)], error.message, trailers)
