"""Server interceptors whose work for a call is only the call's own."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

type Handler = grpc.RpcMethodHandler[Any, Any] | None


class WrappingInterceptor(aio.ServerInterceptor):
    """Wraps each handler when it is first called, and not anew for every call."""

    def __init__(self) -> None:
        self._wrapped: dict[Any, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler that `continuation` finds, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self.missing(handler_call_details)
            return None
        if handler not in self._wrapped:
            self._wrapped[handler] = self.wrap(handler, handler_call_details.method)
        return self._wrapped[handler]

    @abstractmethod
    def wrap(self, handler: Any, method: str) -> Handler:
        """The handler to use instead."""

    def missing(self, details: grpc.HandlerCallDetails) -> None:
        """There is no handler: the call will end with UNIMPLEMENTED."""
