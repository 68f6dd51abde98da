"""The counts in PostgreSQL, for any number of replicas."""

from collections.abc import Sequence
from datetime import UTC, date
from typing import Self

from pydantic import SecretStr

from analytics_service.store import DEMO_COUNTS, SentMessage, UserAnalytics
from daca_shared.domain import Unavailable
from daca_shared.observe.tracing import Tracing
from daca_shared.storage.groups import Groups
from daca_shared.storage.postgres import PostgresDatabase

# In the order of their code points user ids compare fast, and everywhere the same.
_CREATE = """
CREATE TABLE analytics.messages (
    message_id uuid PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    sent_time timestamptz NOT NULL
);
CREATE TABLE analytics.users (
    user_id text COLLATE "C" PRIMARY KEY,
    message_count bigint NOT NULL,
    last_message_time timestamptz
);
CREATE TABLE analytics.activity (
    user_id text COLLATE "C",
    day date,
    message_count bigint NOT NULL,
    PRIMARY KEY (user_id, day)
);
"""

# Replicas that count at once wait for each other's rows. They take them in the same order, so
# that no two wait for one another: the messages first, as the counters are made of them, and
# each table's rows by their key. READ COMMITTED then adds to what the other has committed.
_RECORD = """
WITH sent AS (
    SELECT DISTINCT ON (message_id) message_id, user_id, sent_time
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
        AS sent (message_id, user_id, sent_time, n)
    ORDER BY message_id, n
), counted AS (
    INSERT INTO analytics.messages (message_id, user_id, sent_time)
    SELECT message_id, user_id, sent_time FROM sent ORDER BY message_id
    ON CONFLICT DO NOTHING
    RETURNING message_id, user_id, sent_time
), by_user AS (
    INSERT INTO analytics.users AS known (user_id, message_count, last_message_time)
    SELECT user_id, count(*), max(sent_time) FROM counted GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET
        message_count = known.message_count + excluded.message_count,
        last_message_time = greatest(known.last_message_time, excluded.last_message_time)
), by_day AS (
    INSERT INTO analytics.activity AS known (user_id, day, message_count)
    SELECT user_id, (sent_time AT TIME ZONE 'UTC')::date AS day, count(*)
    FROM counted GROUP BY user_id, day ORDER BY user_id, day
    ON CONFLICT (user_id, day) DO UPDATE SET
        message_count = known.message_count + excluded.message_count
)
SELECT message_id FROM counted
"""

_SEED = "INSERT INTO analytics.users (user_id, message_count) VALUES " + ", ".join(  # noqa: S608
    map(str, DEMO_COUNTS.items())
)


# Batches, of up to 1,000 messages each.
_MAX_GROUP = 32


class PostgresCounts:
    """`analytics_service.store.Counts` in the schema `analytics`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._batches = Groups[Sequence[SentMessage], int](
            self._record, lasting=Unavailable, most=_MAX_GROUP
        )

    @classmethod
    async def open(cls, url: SecretStr, *, seed_demo_users: bool, tracing: Tracing) -> Self:
        """Connect. Raises `Unavailable`."""
        create = _CREATE + (_SEED if seed_demo_users else "")
        return cls(await PostgresDatabase.open(url, "analytics", [create], tracing))

    async def user(self, user_id: str) -> UserAnalytics | None:
        rows = await self._database.read(
            "SELECT message_count, last_message_time FROM analytics.users WHERE user_id = $1",
            user_id,
        )
        if not rows:
            return None
        ((count, last),) = rows
        # The first and the last moment of all are infinities to asyncpg, which have no zone.
        return UserAnalytics(user_id, count, last and last.replace(tzinfo=UTC))

    async def activity(self, user_id: str, since: date) -> dict[date, int]:
        rows = await self._database.read(
            "SELECT day, message_count FROM analytics.activity WHERE user_id = $1 AND day >= $2",
            user_id,
            since,
        )
        return {row["day"]: row["message_count"] for row in rows}

    async def record(self, messages: Sequence[SentMessage]) -> int:
        with self._database.writing():
            return await self._batches.put(messages)

    async def close(self) -> None:
        await self._batches.finish()
        await self._database.close()

    async def _record(self, batches: list[Sequence[SentMessage]]) -> list[int]:
        messages = [message for batch in batches for message in batch]
        rows = await self._database.write(
            _RECORD,
            [message.message_id for message in messages],
            [message.user_id for message in messages],
            [message.sent_time for message in messages],
        )
        new = {row["message_id"] for row in rows}
        counted = []
        for batch in batches:
            # An id that several batches have is the first one's.
            mine = new & {message.message_id for message in batch}
            new -= mine
            counted.append(len(mine))
        return counted
