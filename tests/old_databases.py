"""Databases that the version before 1.0 has left, as it made them: their dumps are in
`tests/data/before_1_0`."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from lab.postgres import Place, connected

_DUMPS = Path(__file__).with_name("data") / "before_1_0"


def message_id(number: int) -> UUID:
    """Of the messages in the dumps."""
    return UUID(f"00000000-0000-4000-8000-{number:012}")


async def restore(place: Place, service: str) -> None:
    """Make the database that `service` had."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as file:
            file.executescript((_DUMPS / f"{service}.sqlite.sql").read_text())
    else:
        async with connected(place) as connection:
            await connection.execute((_DUMPS / f"{service}.postgres.sql").read_text())
