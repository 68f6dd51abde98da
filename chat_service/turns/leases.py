"""One turn of a conversation at a time."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from uuid import UUID
from weakref import WeakValueDictionary

from chat_service.chat.messages import ConversationKey
from daca_shared.domain import DomainError, Unavailable
from daca_shared.storage.database import Database, Statements

# A lease lasts 3 s from its last renewal, so a dead replica's conversations must wait that long.
# Two tries to renew a lease fit into 3 s, even if the first one hangs.
_PAUSE_S, _TIMEOUT_S = 0.5, 1.0
# How often to look whether another replica's turn is over.
_POLL_S = 0.05

# Commits of leases don't wait for the disk: one that a crash of the server loses does no harm.
_LAZILY = "set_config('synchronous_commit', 'off', true)"
# A lease that ends after this was made before the database's clock was set back. 10 s and not 3,
# as `now()` is when the transaction began, which may be some seconds ago.
_LASTS = "BETWEEN now() AND now() + interval '10 seconds'"
_OF_OTHERS = f"WHERE user_id = $1 AND session_id = $2 AND holder <> $3 AND end_time {_LASTS}"
_MINE = "WHERE user_id = $1 AND session_id = $2 AND holder = $3"
# A try that finds the lease taken must not lock its row, as renewals skip locked rows.
_TAKE = f"""
INSERT INTO chat.leases AS known (user_id, session_id, holder, end_time)
SELECT $1, $2, $3, now() + interval '3 seconds' FROM {_LAZILY}
WHERE NOT EXISTS (SELECT FROM chat.leases {_OF_OTHERS})
ON CONFLICT (user_id, session_id) DO UPDATE
    SET holder = excluded.holder, end_time = excluded.end_time
    WHERE known.end_time NOT {_LASTS} OR known.holder = excluded.holder
RETURNING holder"""  # noqa: S608
# A lease's row is locked while its turn is stored. Renewals skip it, as others can't wait.
_RENEW = f"""
UPDATE chat.leases SET end_time = now() + interval '3 seconds' FROM {_LAZILY}
WHERE (user_id, session_id) IN
    (SELECT user_id, session_id FROM chat.leases {_MINE} FOR NO KEY UPDATE SKIP LOCKED)"""  # noqa: S608
_LET_GO = f"DELETE FROM chat.leases USING {_LAZILY} {_MINE}"  # noqa: S608
# Dead replicas leave leases behind.
_FORGET = "DELETE FROM chat.leases WHERE end_time < now() - interval '1 hour'"
# Locks the row until the commit, so that whoever takes over the lease finds this turn.
_CONFIRM = f"SELECT holder FROM chat.leases {_MINE} FOR SHARE"  # noqa: S608


class TurnLocks:
    """Locks within this process, which is enough if no other process uses the database."""

    def __init__(self) -> None:
        # A lock disappears once nobody holds it or waits for it.
        self._locks = WeakValueDictionary[ConversationKey | tuple[str, UUID], asyncio.Lock]()

    def message(self, user_id: str, message_id: UUID) -> AbstractAsyncContextManager[None]:
        return self._locks.setdefault((user_id, message_id), asyncio.Lock())

    def turn(self, key: ConversationKey) -> AbstractAsyncContextManager[None]:
        return self._locks.setdefault(key, asyncio.Lock())

    async def confirm(self, key: ConversationKey, statements: Statements) -> None:
        """Part of a transaction on the conversation. Raises `Unavailable` if the lock is lost."""


class TurnLeases(TurnLocks):
    """Locks across replicas: rows that expire unless a live replica renews them."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._holder = secrets.randbits(62)
        self._held: set[ConversationKey] = set()

    @asynccontextmanager
    async def turn(self, key: ConversationKey) -> AsyncIterator[None]:
        async with super().turn(key):
            try:
                while not await self._run(_TAKE, key):  # noqa: ASYNC110 - another process frees it
                    await asyncio.sleep(_POLL_S)
                self._held.add(key)
                yield
            finally:
                self._held.discard(key)
                # A lease that can't be released expires by itself, so nobody waits long for this.
                with suppress(DomainError, TimeoutError):
                    async with asyncio.timeout(_TIMEOUT_S):
                        await self._run(_LET_GO, key)

    async def confirm(self, key: ConversationKey, statements: Statements) -> None:
        if not await statements.fetch(_CONFIRM, key.user_id, key.session_id, self._holder):
            problem = "The conversation has gone on without this reply; try again"
            raise Unavailable(problem, code="CONVERSATION_WENT_ON")

    async def renew_for_ever(self) -> None:
        with suppress(DomainError):
            await self._database.write(lambda statements: statements.fetch(_FORGET))
        while True:
            await asyncio.sleep(_PAUSE_S)
            if self._held:
                with suppress(DomainError, TimeoutError):
                    async with asyncio.timeout(_TIMEOUT_S):
                        await self._run(_RENEW, *self._held)

    async def _run(self, statement: str, *keys: ConversationKey) -> bool:
        """Run the statement for each of `keys`. Returns whether it has returned any row."""
        arguments = [(key.user_id, key.session_id, self._holder) for key in keys]
        return bool(await self._database.write(lambda db: db.fetchmany(statement, arguments)))
