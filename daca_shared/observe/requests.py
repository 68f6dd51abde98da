"""The request that is being served: what its log lines share, and what its own calls carry."""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random

from opentelemetry import trace

REQUEST_ID = "x-request-id"
"""The header, and the metadata key, that carries a request's id."""

# Not secret, only different, so they need no trip to the kernel. Of our own: who seeds `random`, as
# Hypothesis does, must not get the same ids again.
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


current_request: ContextVar[Request | None] = ContextVar("current_request", default=None)
"""The request that a context serves; None in work that belongs to none."""


def begin_request(shown_ids: Sequence[str]) -> Request:
    """From now on the current context serves a new request. Its id is the one that is shown, if
    that is at most 128 visible ASCII characters."""
    is_good = len(shown_ids) == 1 and _is_id(shown_ids[0])
    known = shown_ids[0] if is_good else f"{_ids.getrandbits(128):032x}"
    request = Request(known, current_trace_id())
    # Never reset: what a server still logs after the request belongs to it.
    current_request.set(request)
    return request


def current_trace_id() -> str | None:
    """The trace that the current context is part of."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def note_user(user_id: str) -> None:
    """The current request is this user's."""
    if request := current_request.get():
        request.user_id = user_id


def request_metadata() -> tuple[tuple[str, str], ...]:
    """What a call to another service carries, so that its log lines have the same id."""
    request = current_request.get()
    return () if request is None else ((REQUEST_ID, request.id),)
