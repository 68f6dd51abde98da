"""How a service reports what it does."""

import logging


def configure_logging(level: str) -> None:
    """Log to stderr, one line a record."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    # One line a model request, with the address but without its outcome: noise.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
