"""Durable storage that both services build their own stores on."""

from daca_shared.domain import Unavailable


def unavailable() -> Unavailable:
    """What callers are told when a database fails; the cause is for the log."""
    return Unavailable("The service's storage is unavailable; try again later")
