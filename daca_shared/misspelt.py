"""Variables that are nearly settings."""

import logging
from collections.abc import Collection
from difflib import get_close_matches
from functools import cache

_warn = cache(logging.getLogger(__name__).warning)  # once, however often settings are read


def warn_of_misspelt(names: Collection[str], settings: Collection[str]) -> None:
    """Log which of `names` is none of `settings`, but nearly one."""
    for name in sorted({*names}.difference(settings)):
        if name.startswith(("ANALYTICS_", "AUTH_", "CHAT_", "DACA_")):
            for meant in get_close_matches(name, settings, 1, 0.8):
                _warn("%s has no effect: is %s meant?", name, meant)
