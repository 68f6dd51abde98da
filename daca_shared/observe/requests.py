"""The request being served: what its log lines have in common, and what its calls pass on."""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random

from opentelemetry import trace

REQUEST_ID = "x-request-id"
"""The header, and the metadata key, that carries a request's id."""

# Ids must be unique but not secret, so they need no system call. An instance of our own, as
# seeding `random` itself (Hypothesis does it) would make ids repeat.
_ids = Random()  # noqa: S311
_is_id = re.compile(r"[\x21-\x7e]{1,128}").fullmatch


@dataclass(slots=True)
class Request:
    """One HTTP request or gRPC call."""

    id: str
    trace_id: str | None
    user_id: str | None = None
    error: str = ""
    """What went wrong after the status had been sent."""
    reason: str = ""
    """The `code` of the error that was sent to the caller."""


current_request: ContextVar[Request | None] = ContextVar("current_request", default=None)
"""The request that the current context serves; None in background work."""


def begin_request(shown_ids: Sequence[str]) -> Request:
    """Begin a new request in the current context. Its id is the one in `shown_ids`, if there is
    exactly one, of at most 128 visible ASCII characters; otherwise a new one."""
    is_good = len(shown_ids) == 1 and _is_id(shown_ids[0])
    known = shown_ids[0] if is_good else f"{_ids.getrandbits(128):032x}"
    request = Request(known, current_trace_id())
    # Never reset, so that what the server logs after the request still has its id.
    current_request.set(request)
    return request


def current_trace_id() -> str | None:
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def note_user(user_id: str) -> None:
    """Note the current request's user. An id that is too long is cut to 128 characters."""
    if request := current_request.get():
        request.user_id = user_id[:128]


def note_reason(code: str) -> None:
    if request := current_request.get():
        request.reason = code


def request_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service, so that its log lines have the same request id."""
    request = current_request.get()
    return () if request is None else ((REQUEST_ID, request.id),)
