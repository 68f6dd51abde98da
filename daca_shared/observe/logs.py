"""The log: a line of JSON for each event, or of plain text on a terminal."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from daca_shared.observe.requests import Request, current_request, current_trace_id

_encode = json.JSONEncoder(default=str).encode
_MIN_SECRET_LENGTH = 4


def configure_logging(level: str, *, secrets: Iterable[str], show_user_ids: bool = False) -> None:
    """Log to stderr, without any of `secrets`, as JSON or, on a terminal, as text. User ids are
    hashed unless `show_user_ids`."""
    handler = _Handler(secrets, show_user_ids=show_user_ids)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # It logs a line for each model request, with its address but not its outcome: noise.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # Their DEBUG lines contain what users write.
    for name in ("openai", "mcp"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


def log_request(
    logger: logging.Logger, level: int, event: str, request: Request, fields: dict[str, Any]
) -> None:
    """Log a request that has ended, in the next round of the loop, once its answer is on its way.
    Not through `logging`, which would take a quarter of the CPU of a `GetAnalytics`."""
    if logger.isEnabledFor(level):
        for handler in logging.getLogger().handlers:
            if isinstance(handler, _Handler):
                arguments = (level, logger.name, event, request, fields)
                asyncio.get_running_loop().call_soon(handler.write, *arguments)


class _Handler(logging.StreamHandler[Any]):
    """Formats log lines, without secrets: a library may log an answer that quotes our key."""

    def __init__(self, secrets: Iterable[str], *, show_user_ids: bool) -> None:
        super().__init__()
        # Each as it is, and as in JSON that a library logs. Shorter ones may occur in any line.
        long = [secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH]
        forms = {form for secret in long for form in (secret, _encode(secret)[1:-1])}
        # The longest first, as a longer secret may contain a shorter one.
        self._secrets = sorted(forms, key=len, reverse=True)
        self._show_user_ids = show_user_ids
        self._is_terminal = self.stream.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {}
            if record.exc_info:
                fields["exception"] = logging.Formatter().formatException(record.exc_info)
            request = current_request.get()
            self.write(record.levelno, record.name, record.getMessage(), request, fields)
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def write(
        self, level: int, logger: str, event: str, request: Request | None, fields: dict[str, Any]
    ) -> None:
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(level).lower(),
            "logger": logger,
            "event": event,
            **fields,
        }
        if request:
            if request.reason:
                line["reason"] = request.reason
            line["request_id"] = request.id
            if (user_id := request.user_id) is not None:
                line["user"] = user_id if self._show_user_ids else hash_user_id(user_id)
        if trace_id := request.trace_id if request else current_trace_id():
            line["trace_id"] = trace_id
        if self._secrets:
            line = {name: self._redacted(value) for name, value in line.items()}
        text = _as_text(line) if self._is_terminal else _encode(line)
        # A full disk, or a closed pipe, must not fail a request.
        with suppress(OSError):
            self.stream.write(text + "\n")

    def _redacted(self, value: Any) -> Any:
        """Without secrets. Numbers have none, and the line must remain JSON."""
        if isinstance(value, int | float):
            return value
        value = str(value)
        for secret in self._secrets:
            value = value.replace(secret, "[redacted]")
        return value


@lru_cache(4096)
def hash_user_id(user_id: str) -> str:
    """Stands for a user id in the log: always the same, and secret unless the id can be guessed."""
    return hashlib.sha256(user_id.encode(errors="replace")).hexdigest()[:12]


def _as_text(line: dict[str, Any]) -> str:
    time_, level, logger, event = (line.pop(n) for n in ("timestamp", "level", "logger", "event"))
    exception = line.pop("exception", "")
    # A line feed in a value could forge a log line.
    fields = "".join(
        f" {name}={value if str(value).isprintable() else repr(value)}"
        for name, value in line.items()
    )
    event = event if event.isprintable() else repr(event)
    return f"{time_[11:23]} {level:<8}{event} [{logger}]{fields}" + (exception and f"\n{exception}")
