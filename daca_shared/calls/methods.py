"""The methods of a gRPC server, each wrapped once, when it is added.

An `aio.ServerInterceptor` is asked anew for every call: ADR 0020 says what that costs.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc
from grpc import StatusCode, aio

type Handler = grpc.RpcMethodHandler[Any, Any]
type Wrap = Callable[[Handler, str], Handler]
"""Makes of a handler, and its method's path, the handler that is used instead."""

# Of a stranger's making; every name of its own would be a time series of its own.
_UNKNOWN_METHOD = "/_OTHER"


class Gate(Protocol):
    """Decides, before it is read, whether a call is served."""

    refusal: Handler

    def admits(self, call: grpc.HandlerCallDetails) -> bool:
        """Whether the call is served; else `refusal` answers it."""
        ...


class Methods(grpc.GenericRpcHandler):
    """What the `add_…_to_server` functions of generated code take for a server."""

    def __init__(self, wraps: Sequence[Wrap], gate: Gate | None = None) -> None:
        """Of `wraps`, the first is the outermost."""
        self._wraps = wraps
        self._gate = gate
        self._served: dict[str, Handler] = {}
        self._refused: dict[str, Handler] = {}
        self._add(_UNKNOWN_METHOD, grpc.stream_stream_rpc_method_handler(_not_found))

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """Serve these methods of a service."""
        for name, handler in method_handlers.items():
            self._add(f"/{service_name}/{name}", handler)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Generated code adds the same methods a second time so, without their names."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler for a call."""
        admitted = self._gate is None or self._gate.admits(handler_call_details)
        handlers = self._served if admitted else self._refused
        return handlers.get(handler_call_details.method) or handlers[_UNKNOWN_METHOD]

    def _add(self, path: str, handler: Handler) -> None:
        self._served[path] = self._wrapped(handler, path)
        if self._gate:
            self._refused[path] = self._wrapped(self._gate.refusal, path)

    def _wrapped(self, handler: Handler, path: str) -> Handler:
        for wrap in reversed(self._wraps):
            handler = wrap(handler, path)
        return handler


async def _not_found(_: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]) -> None:
    await context.abort(StatusCode.UNIMPLEMENTED, "Method not found!")
