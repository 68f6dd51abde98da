"""How a service reports what it does."""

import logging
from collections.abc import Collection


class _RedactingFormatter(logging.Formatter):
    """Blots out secrets wherever they stand: a library may log a host's answer, and a
    host's answer may quote our key."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


def configure_logging(level: str, *, secrets: Collection[str]) -> None:
    """Log to stderr, with none of `secrets` in any line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_RedactingFormatter(secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # One line a model request, with the address but without its outcome: noise.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
