"""Databases of the version before 1.0, from its dumps in `tests/data/before_1_0`."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from lab.postgres import Place, connected

_DUMPS = Path(__file__).with_name("data") / "before_1_0"


def message_id(number: int) -> UUID:
    """The id of a message in the dumps."""
    return UUID(f"00000000-0000-4000-8000-{number:012}")


async def restore(place: Place, service: str) -> None:
    """Restore the database of `service`."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as file:
            file.executescript((_DUMPS / f"{service}.sqlite.sql").read_text())
    else:
        async with connected(place) as connection:
            await connection.execute((_DUMPS / f"{service}.postgres.sql").read_text())
