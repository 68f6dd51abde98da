"""Locks on conversations between replicas, in PostgreSQL."""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from chat_service.turns.memory import ConversationKey
from daca_shared.domain import Unavailable
from daca_shared.storage.groups import Groups
from daca_shared.storage.postgres import PostgresDatabase

# A replica that dies keeps its conversations for as long as a lease lasts.
_RENEW_S = 1.0

# Not in the write-ahead log: a lease has no use after a crash, and so waits for no disk.
CREATE_LEASES = """
CREATE UNLOGGED TABLE chat.leases (
    user_id text COLLATE "C",
    session_id uuid,
    holder bigint NOT NULL,
    end_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
"""
"""The migration that makes the table."""

# It takes and it renews. Every replica takes rows in the same order, so that no two wait for
# one another.
_TAKE = """
INSERT INTO chat.leases AS known (user_id, session_id, holder, end_time)
SELECT user_id, session_id, $3, now() + interval '3 seconds'
FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, session_id)
ORDER BY user_id COLLATE "C", session_id
ON CONFLICT (user_id, session_id) DO UPDATE
    SET holder = excluded.holder, end_time = excluded.end_time
    WHERE known.holder = excluded.holder OR known.end_time < now()
RETURNING user_id, session_id
"""
_LET_GO = """
WITH ours AS (
    SELECT known.user_id, known.session_id
    FROM chat.leases AS known
    JOIN unnest($1::text[], $2::uuid[]) AS done (user_id, session_id)
        USING (user_id, session_id)
    WHERE holder = $3
    ORDER BY known.user_id, known.session_id
    FOR UPDATE OF known
)
DELETE FROM chat.leases USING ours
WHERE leases.user_id = ours.user_id AND leases.session_id = ours.session_id
"""


class TurnLeases:
    """`memory.TurnLocks` as rows that this replica, `holder`, renews while it lives."""

    def __init__(self, database: PostgresDatabase, holder: int) -> None:
        self._database = database
        self._holder = holder
        self._held: set[ConversationKey] = set()
        # Whether each conversation is wanted or done with; its last word counts.
        self._groups = Groups[tuple[ConversationKey, bool], bool](self._write, lasting=Unavailable)

    async def try_lock(self, key: ConversationKey) -> bool:
        with self._database.writing():
            taken = await self._groups.put((key, True))
        if taken:
            self._held.add(key)
        return taken

    def unlock(self, key: ConversationKey) -> None:
        # Nobody waits for it: whoever is next in this process is behind it in the queue.
        self._held.discard(key)
        self._groups.put((key, False)).add_done_callback(_forgive)

    async def run(self) -> NoReturn:
        """Renew for ever."""
        while True:
            await asyncio.sleep(_RENEW_S)
            for key in self._held:
                self._groups.put((key, True)).add_done_callback(_forgive)

    async def close(self) -> None:
        """Wait until what we let go of is free."""
        await self._groups.finish()

    async def _write(self, group: list[tuple[ConversationKey, bool]]) -> list[bool]:
        last = dict(group)
        done = [key for key, is_wanted in last.items() if not is_wanted]
        wanted = [key for key, is_wanted in last.items() if is_wanted]
        taken: set[ConversationKey] = set()
        if done:
            await self._fetch(_LET_GO, done)
        if wanted:
            rows = await self._fetch(_TAKE, wanted)
            taken = {ConversationKey(row["user_id"], row["session_id"]) for row in rows}
        return [key in taken for key, _ in group]

    async def _fetch(self, statement: str, keys: Sequence[ConversationKey]) -> list[Any]:
        return await self._database.write(
            statement,
            [key.user_id for key in keys],
            [key.session_id for key in keys],
            self._holder,
        )


def _forgive(done: asyncio.Future[bool]) -> None:
    # A lease that can't be renewed or returned ends by itself. Losing it fails the turn.
    if not done.cancelled():
        done.exception()
