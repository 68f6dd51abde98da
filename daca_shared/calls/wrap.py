"""The layer around every gRPC call, for all kinds of methods: request id, span, errors as statuses,
log line and metrics. Handlers are wrapped once, when they are added; an `aio.ServerInterceptor`
would do it again for every call."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio
from opentelemetry import trace
from pydantic import SecretStr

from daca_shared.calls.errors import FAULTS, Context, abort, final_status, grpc_status
from daca_shared.calls.open_calls import IDLE_S, TOO_MANY, OpenCalls
from daca_shared.calls.sidecar import check_token
from daca_shared.domain import MOMENT_S, DomainError, InvalidInput
from daca_shared.observe.logs import log_request
from daca_shared.observe.metrics import call_durations
from daca_shared.observe.requests import REQUEST_ID, begin_request
from daca_shared.observe.tracing import begin_server_span, end_call_span, tracing

log = logging.getLogger(__name__)

type Handler = grpc.RpcMethodHandler[Any, Any]

# A caller may invent method names, and each would become a time series.
_UNKNOWN_METHOD = "/_OTHER"
# Decoded, a request may take a hundred times as much memory.
_MAX_REQUEST_BYTES = 1 << 20


class Methods(grpc.GenericRpcHandler):
    """The wrapped methods of a server. Generated `add_…_to_server` functions accept it as a server.
    With a `token`, calls that don't show it are refused."""

    def __init__(self, token: SecretStr | None, calls: OpenCalls) -> None:
        self._token, self._calls = token, calls
        self._handlers: dict[str, Handler] = {}
        self.services: list[str] = []
        self._wrap(_UNKNOWN_METHOD, _ending(StatusCode.UNIMPLEMENTED, "Method not found!"))

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        self.services.append(service_name)
        for name, handler in method_handlers.items():
            path = f"/{service_name}/{name}"
            # Tools ask for v1 of reflection first. It is v1alpha under another name, byte for byte.
            for same in {path, path.replace("reflection.v1alpha", "reflection.v1")}:
                self._wrap(same, handler)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Does nothing: generated code passes the same handlers to the method above."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Runs in the call's own task, which begins before the request has come, and ends when the
        caller has read the answer."""
        path = handler_call_details.method
        path = path if path in self._handlers else _UNKNOWN_METHOD
        if not self._calls.begin(path):
            call_durations(path.removeprefix("/"), "RESOURCE_EXHAUSTED").observe(0)
            return _refusal
        return self._handlers[path]

    def _wrap(self, path: str, handler: Handler) -> None:
        self._handlers[path] = _Method(path, handler, self._token, self._calls).handler()


class _Method:
    """A method with the layer around it. To grpc, its requests are always a stream of bytes:
    otherwise grpc.aio would read a single request before it calls us, and send no status if the
    call ends before that."""

    def __init__(self, path: str, handler: Any, token: SecretStr | None, calls: OpenCalls) -> None:
        self._path, self._token, self._calls = path, token, calls
        self._decode, self._encode = handler.request_deserializer, handler.response_serializer
        takes, gives = handler.request_streaming, handler.response_streaming
        self._takes_stream, self._gives_stream = takes, gives
        kind = f"{'stream' if takes else 'unary'}_{'stream' if gives else 'unary'}"
        self._behaviour = getattr(handler, kind)  # the servicer's method
        self._is_generator = inspect.isasyncgenfunction(self._behaviour)

    def handler(self) -> Handler:
        unary, stream = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return (stream if self._gives_stream else unary)(self._call, None, self._encode)

    async def _call(self, requests: AsyncIterator[bytes], context: Context) -> Any:
        """Answer a call, or end it with its error's status; and record it."""
        began, method = time.perf_counter(), self._path.removeprefix("/")
        metadata = context.invocation_metadata() or ()
        span: trace.Span = trace.INVALID_SPAN
        # Our own span, as `opentelemetry-instrumentation-grpc` loses cancellations and statuses.
        if tracing.tracer and not self._path.startswith("/grpc."):
            # daprd 1.18 appends its own `traceparent` to the caller's: the last one is our parent.
            span = begin_server_span(tracing.tracer, method, dict(metadata))
        request = begin_request([str(v) for name, v in metadata if name == REQUEST_ID])
        context.set_trailing_metadata(((REQUEST_ID, request.id),))
        error: BaseException | None = None
        try:
            return await self._answer(requests, context)
        except BaseException as raised:
            error = raised
            match raised:
                case Exception():
                    await abort(context, raised, self._path)
                case asyncio.CancelledError(args=(DomainError() as error,)):
                    # We ended it, and grpc would send no status. Its caller may not even read one.
                    with suppress(aio.InternalError, TimeoutError):
                        async with asyncio.timeout(IDLE_S):
                            await abort(context, error, self._path)
            raise
        finally:
            self._calls.note_idle(is_idle=True)
            code = final_status(context, error)
            end_call_span(span, method, code.name, failed=code in FAULTS)
            took_s = time.perf_counter() - began
            call_durations(method, code.name).observe(took_s)
            level = logging.DEBUG if method.startswith("grpc.health.v1.") else logging.INFO
            fields = {"method": method, "code": code.name, "duration_ms": round(took_s * 1000, 1)}
            log_request(log, level, "call", request, fields)

    async def _answer(self, requests: AsyncIterator[bytes], context: Context) -> Any:
        if self._token is not None:
            check_token(self._token, self._path, context.invocation_metadata() or ())
        is_single = not self._takes_stream
        request = await self._read(context) if is_single else self._each_decoded(requests)
        answer = self._behaviour(request, context)
        # A streaming method may also be a coroutine that writes each response by itself.
        return await (self._write_each(answer, context) if self._is_generator else answer)

    async def _read(self, context: Context) -> Any:
        self._calls.note_idle(is_idle=True)
        request = await context.read()
        self._calls.note_idle(is_idle=False)
        if request is aio.EOF:
            await asyncio.sleep(MOMENT_S)  # if the caller has left, grpc cancels us
            raise InvalidInput([], "The request is missing")
        return self._decoded(request)

    async def _each_decoded(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for request in requests:
            yield self._decoded(request)

    def _decoded(self, request: bytes) -> Any:
        if len(request) > _MAX_REQUEST_BYTES:
            problem = f"The request is longer than {_MAX_REQUEST_BYTES} bytes"
            raise InvalidInput([], problem, code="BODY_TOO_LARGE")
        # Decoded here, as grpc itself would answer INTERNAL, as if the fault were ours.
        try:
            return self._decode(request)
        except DecodeError:
            raise InvalidInput([], "The request is no message of this method's type") from None

    async def _write_each(self, responses: AsyncGenerator[Any], context: Context) -> None:
        async with aclosing(responses):
            async for response in responses:
                self._calls.note_idle(is_idle=True)
                try:
                    await context.write(response)
                except aio.InternalError:  # the caller has left
                    raise asyncio.CancelledError from None
                self._calls.note_idle(is_idle=False)


def _ending(code: StatusCode, details: str, trailers: Sequence[Any] = ()) -> Handler:
    """A handler that ends each call with this status."""

    async def end(_: object, context: Context) -> None:
        await context.abort(code, details, trailers)

    return grpc.stream_stream_rpc_method_handler(end)


# Not wrapped as other handlers: with many refusals, the wrapping would be the load.
_refusal = _ending(*grpc_status(TOO_MANY))
