"""The request that is being served: what its log lines share, and what goes on with it."""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random

from opentelemetry import trace

REQUEST_ID = "x-request-id"
"""The header, and the metadata key, that carries a request's id."""

# No secret: random enough to be told apart, and no trip to the kernel.
_ids = Random()  # noqa: S311
_is_id = re.compile(r"[\x21-\x7e]{1,128}").fullmatch


@dataclass(slots=True)
class Request:
    """One HTTP request or gRPC call."""

    id: str
    trace_id: str | None
    user_id: str | None = None
    """Whose it is, once that is known."""
    error: str = ""
    """What went wrong after its status was sent."""


_current: ContextVar[Request | None] = ContextVar("request", default=None)


def begin_request(shown_id: str | bytes | None) -> Request:
    """The current context serves a new request from now on, by its caller's id if that is one:
    at most 128 visible ASCII characters."""
    if isinstance(shown_id, bytes):
        shown_id = shown_id.decode("latin-1")
    known = shown_id if shown_id and _is_id(shown_id) else f"{_ids.getrandbits(128):032x}"
    request = Request(known, current_trace_id())
    # Never reset: whatever a server says of the request after it still belongs to it.
    _current.set(request)
    return request


def current_request() -> Request | None:
    """The request that the current context serves; None in work that belongs to none."""
    return _current.get()


def current_trace_id() -> str | None:
    """The trace that the current context is part of."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def note_user(user_id: str) -> None:
    """The current request is this user's."""
    if request := _current.get():
        request.user_id = user_id


def note_error(error: str) -> None:
    """The current request went wrong, whatever its status says."""
    if request := _current.get():
        request.error = error


def request_metadata() -> tuple[tuple[str, str], ...]:
    """What a call to another service carries, so that its log lines have the same id."""
    request = _current.get()
    return () if request is None else ((REQUEST_ID, request.id),)


def shown_id[V: str | bytes](pairs: Iterable[tuple[V, V]], key: V) -> V | None:
    """The one value of `key`; None if there is none, or more."""
    values = [value for name, value in pairs if name == key]
    return values[0] if len(values) == 1 else None
