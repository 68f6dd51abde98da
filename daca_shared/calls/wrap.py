"""The layer around every gRPC call, for all kinds of methods: request id, span, errors as statuses,
log line and metrics. Handlers are wrapped once, when they are added; an `aio.ServerInterceptor`
would do it again for every call."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio
from opentelemetry import trace
from pydantic import SecretStr

from daca_shared.calls.errors import FAULTS, Context, abort, final_status, grpc_status
from daca_shared.calls.sidecar import check_token
from daca_shared.domain import MOMENT_S, DomainError, InvalidInput, LimitReached, TimedOut
from daca_shared.observe.logs import log_request
from daca_shared.observe.metrics import call_durations
from daca_shared.observe.requests import REQUEST_ID, begin_request
from daca_shared.observe.tracing import begin_server_span, end_call_span, tracing

log = logging.getLogger(__name__)

type Handler = grpc.RpcMethodHandler[Any, Any]

# A caller may invent method names, and each would become a time series.
_UNKNOWN_METHOD = "/_OTHER"
_CHECK, _WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
# These last long and need no token, so they must not use up the limit for calls.
_LASTING = (_WATCH, "/grpc.reflection.")
_MAX_LASTING = 64
# A live caller sends its request, and reads its answer, within this time.
_IDLE_S = 0.5
# Decoded, a request may take a hundred times as much memory.
_MAX_REQUEST_BYTES = 1 << 20


class Methods(grpc.GenericRpcHandler):
    """The wrapped methods of a server. Generated `add_…_to_server` functions accept it as a server.
    With a `token`, calls that don't show it are refused."""

    def __init__(self, token: SecretStr | None, timeout_s: float, max_calls: int) -> None:
        """After `timeout_s` a call ends, even if its caller sends no request or reads no answer.
        More than `max_calls` at once are refused."""
        self.token, self._timeout_s, self._max_calls = token, timeout_s, max_calls
        self.calls, self.lasting = set[asyncio.Task[Any]](), set[asyncio.Task[Any]]()
        # Calls that wait for their callers to send or to read, and since when; in order.
        self._idle: dict[asyncio.Task[Any] | None, float] = {}
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
        caller has read the answer. Calls are counted here, as grpc's `maximum_concurrent_rpcs`
        also counts ended ones that their callers don't release."""
        handlers, path, task = self._handlers, handler_call_details.method, asyncio.current_task()
        path = path if path in handlers else _UNKNOWN_METHOD
        if task:
            lasts = path.startswith(_LASTING)
            alike, limit = (self.lasting, _MAX_LASTING) if lasts else (self.calls, self._max_calls)
            is_full = len(alike) >= limit and path != _CHECK
            if is_full and (lasts or not self._make_room()):
                call_durations(path.removeprefix("/"), "RESOURCE_EXHAUSTED").observe(0)
                return _refusal
            alike.add(task)
            end = asyncio.get_running_loop().call_later(self._timeout_s, task.cancel, _TOO_LATE)
            if path == _WATCH:
                end.cancel()
            task.add_done_callback(partial(self._forget, end))
        return handlers[path]

    def _make_room(self) -> bool:
        """End the call that has waited longest for its caller, and return whether there was one:
        otherwise one client that sends nothing, or reads nothing, could keep all others out."""
        longest, since = next(iter(self._idle.items()), (None, 0.0))
        if longest is None or time.monotonic() - since < _IDLE_S:
            return False
        longest.cancel(_TOO_MANY)
        self.calls.discard(longest)
        del self._idle[longest]
        return True

    def _forget(self, end: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        end.cancel()
        self.calls.discard(task)
        self.lasting.discard(task)
        self._idle.pop(task, None)

    def note_idle(self, *, is_idle: bool) -> None:
        """Note whether the current call waits for its caller."""
        task = asyncio.current_task()
        self._idle.pop(task, None)
        if is_idle and task in self.calls:
            self._idle[task] = time.monotonic()

    def _wrap(self, path: str, handler: Any) -> None:
        """Wrap the handler as if its requests were a stream: otherwise grpc.aio would read the
        request before it calls us, and send no status if the call ends before that."""
        takes_stream, gives_stream = handler.request_streaming, handler.response_streaming
        kind = f"{'stream' if takes_stream else 'unary'}_{'stream' if gives_stream else 'unary'}"
        behaviour = getattr(handler, kind)  # the servicer's method
        is_generator = inspect.isasyncgenfunction(behaviour)

        def decoded(request: bytes) -> Any:
            if len(request) > _MAX_REQUEST_BYTES:
                problem = f"The request is longer than {_MAX_REQUEST_BYTES} bytes"
                raise InvalidInput([], problem, code="BODY_TOO_LARGE")
            # Decoded here, as grpc itself would answer INTERNAL, as if the fault were ours.
            try:
                return handler.request_deserializer(request)
            except DecodeError:
                raise InvalidInput([], "The request is no message of this method's type") from None

        async def each_decoded(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for request in requests:
                yield decoded(request)

        async def read(context: Context) -> Any:
            self.note_idle(is_idle=True)
            request = await context.read()
            self.note_idle(is_idle=False)
            if request is aio.EOF:
                await asyncio.sleep(MOMENT_S)  # if the caller has left, grpc cancels us
                raise InvalidInput([], "The request is missing")
            return decoded(request)

        async def write_each(responses: AsyncGenerator[Any], context: Context) -> None:
            async with aclosing(responses):
                async for response in responses:
                    self.note_idle(is_idle=True)
                    try:
                        await context.write(response)
                    except aio.InternalError:  # the caller has left
                        raise asyncio.CancelledError from None
                    self.note_idle(is_idle=False)

        async def answer(requests: AsyncIterator[bytes], context: Context) -> Any:
            if self.token is not None:
                check_token(self.token, path, context.invocation_metadata() or ())
            request = each_decoded(requests) if takes_stream else await read(context)
            answer = behaviour(request, context)
            # A streaming method may also be a coroutine that writes each response by itself.
            return await (write_each(answer, context) if is_generator else answer)

        async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
            return await self._report(path, context, answer(requests, context))

        unary, stream = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        make = stream if gives_stream else unary
        self._handlers[path] = make(call, None, handler.response_serializer)

    async def _report(self, path: str, context: Context, answer: Awaitable[Any]) -> Any:
        """Return the `answer` to a call, or end it with its error's status; and record the call."""
        began, method = time.perf_counter(), path.removeprefix("/")
        metadata = context.invocation_metadata() or ()
        span: trace.Span = trace.INVALID_SPAN
        # Our own span, as `opentelemetry-instrumentation-grpc` loses cancellations and statuses.
        if tracing.tracer and not path.startswith("/grpc."):
            # daprd 1.18 appends its own `traceparent` to the caller's: the last one is our parent.
            span = begin_server_span(tracing.tracer, method, dict(metadata))
        request = begin_request([str(v) for name, v in metadata if name == REQUEST_ID])
        context.set_trailing_metadata(((REQUEST_ID, request.id),))
        error: BaseException | None = None
        try:
            return await answer
        except BaseException as raised:
            error = raised
            match raised:
                case Exception():
                    await abort(context, raised, path)
                case asyncio.CancelledError(args=(DomainError() as error,)):
                    # We ended it, and grpc would send no status. Its caller may not even read one.
                    with suppress(aio.InternalError, TimeoutError):
                        async with asyncio.timeout(_IDLE_S):
                            await abort(context, error, path)
            raise
        finally:
            self.note_idle(is_idle=True)
            code = final_status(context, error)
            end_call_span(span, method, code.name, failed=code in FAULTS)
            took_s = time.perf_counter() - began
            call_durations(method, code.name).observe(took_s)
            level = logging.DEBUG if method.startswith("grpc.health.v1.") else logging.INFO
            fields = {"method": method, "code": code.name, "duration_ms": round(took_s * 1000, 1)}
            log_request(log, level, "call", request, fields)


def _ending(code: StatusCode, details: str, trailers: Sequence[Any] = ()) -> Handler:
    """A handler that ends each call with this status."""

    async def end(_: object, context: Context) -> None:
        await context.abort(code, details, trailers)

    return grpc.stream_stream_rpc_method_handler(end)


_TOO_MANY = LimitReached("Too many calls at once; try again", retry_after_s=1)
_TOO_LATE = TimedOut("The call took too long")
# Not wrapped as other handlers: with many refusals, the wrapping would be the load.
_refusal = _ending(*grpc_status(_TOO_MANY))
