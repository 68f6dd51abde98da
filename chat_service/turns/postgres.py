"""The outbox and the conversations in PostgreSQL, for any number of replicas."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from chat_service.outbox.outbox_rows import BATCH, OutboxEntry
from chat_service.turns.history import PastConversation, PastMessage
from chat_service.turns.leases import CREATE_LEASES
from chat_service.turns.memory import ConversationKey, Turn
from daca_shared.domain import Unavailable
from daca_shared.storage.groups import Groups
from daca_shared.storage.postgres import PostgresDatabase

_NEWEST = 2**63 - 1

# Texts are JSON strings: PostgreSQL's own can't hold NUL, which a message may.
MIGRATIONS = (
    """
CREATE TABLE chat.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL UNIQUE,
    user_id text COLLATE "C" NOT NULL,
    sent_time timestamptz NOT NULL,
    owner bigint NOT NULL,
    origin text
);
CREATE INDEX outbox_of_owner ON chat.outbox (owner, seq);
CREATE INDEX outbox_of_user ON chat.outbox (user_id, sent_time);
CREATE TABLE chat.turns (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    session_id uuid NOT NULL,
    message_id uuid NOT NULL,
    end_time timestamptz NOT NULL,
    prompt json NOT NULL,
    reply json NOT NULL,
    stopped boolean NOT NULL,
    items json NOT NULL
);
CREATE INDEX turns_of_conversation ON chat.turns (user_id, session_id, seq);
CREATE TABLE chat.conversations (
    user_id text COLLATE "C",
    session_id uuid,
    title json NOT NULL,
    update_time timestamptz NOT NULL,
    turn_count bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
CREATE UNIQUE INDEX latest_conversations ON chat.conversations (user_id, last_seq);
""",
    CREATE_LEASES,
)
"""In this order for ever: a database knows by their number which it has had."""

_ENTRY = "SELECT seq, message_id, user_id, sent_time, owner, origin FROM chat.outbox"
# The lease is locked until the commit: whoever takes it over finds this turn.
_ADD_TURN = """
WITH lease AS (
    SELECT FROM chat.leases WHERE user_id = $1 AND session_id = $2 AND holder = $3 FOR SHARE
), kept AS (
    INSERT INTO chat.turns
        (user_id, session_id, message_id, end_time, prompt, reply, stopped, items)
    SELECT $1, $2, $4, $5, $6, $7, $8, $9 FROM lease
    RETURNING seq
)
INSERT INTO chat.conversations AS known
    (user_id, session_id, title, update_time, turn_count, last_seq)
SELECT $1, $2, $10, $5, 1, seq FROM kept
ON CONFLICT (user_id, session_id) DO UPDATE SET turn_count = known.turn_count + 1,
    update_time = excluded.update_time, last_seq = excluded.last_seq
RETURNING last_seq
"""


class PostgresOutboxRows:
    """`chat_service.outbox.outbox_rows.OutboxRows` in the schema `chat`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._inserts = Groups[OutboxEntry, None](self._insert, lasting=Unavailable)

    async def insert(self, entry: OutboxEntry) -> None:
        with self._database.writing():
            await self._inserts.put(entry)

    async def own(self, owner: int, *, after: int) -> Sequence[OutboxEntry]:
        return await self._select("owner = $1 AND seq > $2", owner, after)

    async def others(
        self, owner: int, *, after: int, since: datetime, until: datetime
    ) -> Sequence[OutboxEntry]:
        # In two ranges, which the index has.
        return await self._select(
            "(owner < $1 OR owner > $1) AND seq > $2 AND sent_time NOT BETWEEN $3 AND $4",
            owner,
            after,
            since,
            until,
        )

    async def has_others(
        self, owner: int, *, user_id: str, since: datetime, until: datetime
    ) -> bool:
        found = await self._database.read(
            "SELECT FROM chat.outbox"
            " WHERE user_id = $1 AND sent_time BETWEEN $2 AND $3 AND owner <> $4 LIMIT 1",
            user_id,
            since,
            until,
            owner,
        )
        return bool(found)

    async def backlog(self) -> tuple[int, datetime | None]:
        ((count, oldest),) = await self._database.read(
            "SELECT count(*), min(sent_time) FROM chat.outbox"
        )
        return count, oldest

    async def delete(self, seqs: Sequence[int]) -> None:
        # What another replica is deleting at this moment needs no second one.
        await self._database.write(
            "DELETE FROM chat.outbox WHERE seq IN ("
            "SELECT seq FROM chat.outbox WHERE seq = ANY($1) FOR UPDATE SKIP LOCKED)",
            seqs,
        )

    async def _insert(self, entries: list[OutboxEntry]) -> list[None]:
        # By their id, so that no two replicas wait for one another.
        by_id = {entry.message_id: entry for entry in entries}
        rows = [by_id[id_] for id_ in sorted(by_id)]
        await self._database.write(
            "INSERT INTO chat.outbox (message_id, user_id, sent_time, owner, origin) SELECT *"
            " FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::text[])"
            " ON CONFLICT (message_id) DO UPDATE"
            " SET owner = excluded.owner, sent_time = excluded.sent_time",
            [row.message_id for row in rows],
            [row.user_id for row in rows],
            [row.sent_time for row in rows],
            [row.owner for row in rows],
            [row.origin for row in rows],
        )
        return [None] * len(entries)

    async def _select(self, condition: str, *arguments: object) -> list[OutboxEntry]:
        rows = await self._database.read(
            f"{_ENTRY} WHERE {condition} ORDER BY seq LIMIT {BATCH}", *arguments
        )
        return [OutboxEntry(*row) for row in rows]


class PostgresArchive:
    """`memory.Turns` and `history.Archive` in the schema `chat`. Adds turns under the leases of
    `holder` only."""

    def __init__(self, database: PostgresDatabase, holder: int) -> None:
        self._database = database
        self._holder = holder

    async def latest(self, key: ConversationKey, *, limit: int) -> Sequence[str]:
        rows = await self._database.read(
            "SELECT items FROM chat.turns WHERE user_id = $1 AND session_id = $2"
            " ORDER BY seq DESC LIMIT $3",
            key.user_id,
            key.session_id,
            limit,
        )
        return [row["items"] for row in rows]

    async def add(self, key: ConversationKey, turn: Turn, *, title: str) -> None:
        added = await self._database.write(
            _ADD_TURN,
            key.user_id,
            key.session_id,
            self._holder,
            turn.message_id,
            datetime.now(UTC),
            json.dumps(turn.prompt),
            json.dumps(turn.reply),
            turn.stopped,
            json.dumps(turn.items),
            json.dumps(title),
        )
        if not added:
            raise Unavailable("The conversation has gone on without this reply; try again")

    async def conversations(
        self, user_id: str, *, before: int | None, limit: int
    ) -> list[PastConversation]:
        rows = await self._database.read(
            "SELECT last_seq, session_id, title, update_time, turn_count FROM chat.conversations"
            " WHERE user_id = $1 AND last_seq < $2 ORDER BY last_seq DESC LIMIT $3",
            user_id,
            _NEWEST if before is None else before,
            limit,
        )
        return [
            PastConversation(seq, id_, json.loads(title), time, count)
            for seq, id_, title, time, count in rows
        ]

    async def messages(self, key: ConversationKey, *, after: int, limit: int) -> list[PastMessage]:
        rows = await self._database.read(
            "SELECT seq, message_id, prompt, reply, end_time, stopped FROM chat.turns"
            " WHERE user_id = $1 AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4",
            key.user_id,
            key.session_id,
            after,
            limit,
        )
        return [
            PastMessage(seq, id_, json.loads(text), json.loads(reply), time, stopped)
            for seq, id_, text, reply, time, stopped in rows
        ]
