"""How a service reports what it does."""

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Collection, MutableMapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import structlog

from daca_shared.observe.requests import Request, current_request, current_trace_id

type _Event = MutableMapping[str, Any]

_encode = json.JSONEncoder(default=str).encode


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Blots out secrets wherever they stand: a library may log a host's answer, and a
    host's answer may quote our key."""

    def __init__(self, secrets: Collection[str], describe: "_Describe", *, readable: bool) -> None:
        render: list[Any] = [structlog.processors.format_exc_info, _render_json]
        if readable:
            console = structlog.dev.ConsoleRenderer(
                exception_formatter=structlog.dev.plain_traceback
            )
            render = [_printable, console]
        super().__init__(processors=[describe, *render])
        # As they are, and as JSON writes them.
        self._secrets = {form for secret in secrets for form in (secret, _encode(secret)[1:-1])}
        self._describe = describe
        self._readable = readable

    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, "fields") and not self._readable:
            # A request's line, by a shorter way: it is a part of what each request costs.
            text = _encode(self._describe.line(record, record.levelname.lower(), record.msg))
        else:
            text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


class _Writer(logging.StreamHandler[Any]):
    """Writes lines that are made together in one go, unless they are urgent: each write costs
    as much as making the line."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
            if record.levelno > logging.INFO:
                self.flush()
            elif len(self._lines) == 1:
                asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # there is no loop, here or any more
            self.flush()
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def flush(self) -> None:
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            self.stream.write("".join(lines))
            super().flush()


def configure_logging(
    level: str,
    *,
    secrets: Collection[str],
    show_user_ids: bool = False,
    readable: bool | None = None,
) -> None:
    """Log to stderr, with none of `secrets` in any line: `readable`, or as JSON; if that is not
    said, readable on a terminal. User ids are hashed unless they are to be shown."""
    if readable is None:
        readable = sys.stderr.isatty()
    handler = _Writer()
    handler.setFormatter(_Formatter(secrets, _Describe(show_user_ids), readable=readable))
    # No line has these, and they take a third of its time ("Optimization" in the logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # One line a model request, with the address but without its outcome: noise.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # In debug they tell what users write.
    logging.getLogger("openai").setLevel(max(logging.INFO, logging.getLogger().level))


def hash_user_id(user_id: str) -> str:
    """What a log line has in place of a user id: the same for the same user. It hides the id
    from whoever reads the log, not from whoever can guess it."""
    return hashlib.sha256(user_id.encode(errors="replace")).hexdigest()[:12]


class _Describe:
    """Tells of a line when, how severe and whose it is, and about which request."""

    def __init__(self, show_user_ids: bool) -> None:
        self._show_user_ids = show_user_ids

    def __call__(self, _: Any, level: str, event: _Event) -> _Event:
        line = self.line(event["_record"], level, event["event"])
        for key in ("exc_info", "stack_info"):
            if key in event:
                line[key] = event[key]
        return line

    def line(self, record: logging.LogRecord, level: str, text: str) -> dict[str, Any]:
        """What there is to tell of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"timestamp": time, "level": level, "logger": record.name, "event": text}
        line |= getattr(record, "fields", {})
        # A generator may be closed in a context that serves another request, hence `request`.
        request: Request | None = getattr(record, "request", None) or current_request()
        trace_id = request.trace_id if request and request.trace_id else current_trace_id()
        if request:
            line["request_id"] = request.id
            if request.user_id is not None:
                line["user"] = self._name(request.user_id)
        if trace_id:
            line["trace_id"] = trace_id
        return line

    def _name(self, user_id: str) -> str:
        return user_id[:128] if self._show_user_ids else hash_user_id(user_id)


def _render_json(_: Any, __: str, event: _Event) -> str:
    return _encode(event)


def _printable(_: Any, __: str, event: _Event) -> _Event:
    # A line feed in a value would forge a line.
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = repr(value)
    return event
