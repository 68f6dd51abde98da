"""What is special to PostgreSQL: migrations of a running system, a server that is down or hung."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import batched
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import SecretStr

from analytics_service.store import AnalyticsStore, MessageBatch, SentMessage
from chat_service.app import SCHEMA
from chat_service.chat.messages import ChatMessage
from chat_service.outbox.outbox import Outbox
from daca_shared.domain import TimedOut, Unavailable
from daca_shared.storage.database import Statements, read_scripts
from daca_shared.storage.postgres import PostgresDatabase
from lab.postgres import Cluster, connected, run_sql
from tests.fakes import FakeRecorder, eventually, turn_of

SCRIPTS = read_scripts(SCHEMA / "postgres")
LATER = "ALTER TABLE chat.outbox ADD COLUMN note text; ALTER TABLE chat.turns ADD COLUMN note text;"


@asynccontextmanager
async def opened(
    url: SecretStr, scripts: Sequence[str] = SCRIPTS, *, idle_s: float = 10
) -> AsyncIterator[PostgresDatabase]:
    class Impatient(PostgresDatabase):
        timeout_s = 0.5

    Impatient.idle_s = idle_s
    database = await Impatient.open(url, "chat", scripts)
    try:
        yield database
    finally:
        await database.close()


async def works(database: PostgresDatabase) -> bool:
    """Whether a message can be written and read back."""
    outbox = Outbox(database, FakeRecorder().record)
    before, _ = await outbox.backlog()
    await database.write(outbox.adding(turn_of(ChatMessage(user_id="alice", text="hi"), "ok")))
    return (await outbox.backlog())[0] == before + 1


@pytest.mark.parametrize(
    "default",
    [
        "default_transaction_isolation = 'read committed'",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = off",
    ],
)
async def test_replicas_that_start_at_once_migrate_once(
    database_url: SecretStr, default: str
) -> None:
    database = urlsplit(database_url.get_secret_value()).path[1:]
    await run_sql(database_url, f"ALTER DATABASE {database} SET {default}")

    async def start() -> None:
        async with opened(database_url):
            pass

    await asyncio.gather(*(start() for _ in range(5)))
    assert [tuple(row) for row in await run_sql(database_url, "TABLE version")] == [
        (len(SCRIPTS), 3)
    ]


async def test_an_older_program_works_on_while_a_newer_one_migrates_and_after(
    database_url: SecretStr,
) -> None:
    async with opened(database_url) as old:
        assert await works(old)
        async with opened(database_url, [*SCRIPTS, LATER]) as new:
            assert await works(new)
            assert await works(old)
        # After a downgrade, the older version starts.
        async with opened(database_url) as older:
            assert await works(older)


async def test_a_program_that_is_too_old_for_the_schema_is_refused(
    database_url: SecretStr,
) -> None:
    async with opened(database_url):
        with pytest.raises(Unavailable, match="needs version 3"):
            async with opened(database_url, SCRIPTS[:2]):
                pass


async def test_data_restored_into_existing_tables_can_be_used(
    database_url: SecretStr,
) -> None:
    async with opened(database_url):
        await run_sql(database_url, "INSERT INTO chat.version SELECT * FROM chat.version")
    async with opened(database_url, [*SCRIPTS, LATER]) as database:
        assert await works(database)
    async with opened(database_url, [*SCRIPTS, LATER]) as database:
        assert await works(database)


async def test_a_role_that_may_create_no_schema_makes_its_tables_in_one_that_it_was_given(
    database_url: SecretStr,
) -> None:
    role = f"role_{uuid4().hex}"
    await run_sql(database_url, f"CREATE ROLE {role} LOGIN")
    await run_sql(database_url, f"CREATE SCHEMA chat AUTHORIZATION {role}")
    url = SecretStr(database_url.get_secret_value().replace("postgres@", f"{role}@"))
    async with opened(url) as database:
        assert await works(database)


async def test_a_database_that_can_not_hold_every_text_is_refused_at_the_start(
    database_url: SecretStr,
) -> None:
    name = f"test_{uuid4().hex}"
    encoded = f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    await run_sql(database_url, encoded)
    found = urlsplit(database_url.get_secret_value()).path[1:]
    with pytest.raises(Unavailable, match="in LATIN1; texts need UTF8"):
        async with opened(SecretStr(database_url.get_secret_value().replace(found, name))):
            pass


async def test_a_failed_migration_leaves_the_database_as_it_was(database_url: SecretStr) -> None:
    async with opened(database_url, SCRIPTS[:1]):
        pass
    with pytest.raises(Unavailable):
        async with opened(database_url, [*SCRIPTS, "SELECT nonsense"]):
            pass
    assert [tuple(row) for row in await run_sql(database_url, "TABLE version")] == [(1, 0)]
    async with opened(database_url) as database:
        assert await works(database)


async def test_replicas_count_the_same_messages_once_without_deadlocks(
    database_url: SecretStr,
) -> None:
    messages = [
        SentMessage(message_id=uuid4(), user_id=f"user{n % 7}", sent_time=datetime.now(UTC))
        for n in range(2000)
    ]
    forth = [MessageBatch(messages=group) for group in batched(messages, 100)]
    back = [MessageBatch(messages=group[::-1]) for group in batched(messages[::-1], 50)]
    stores = [await AnalyticsStore.open(database_url, seed_demo_users=False) for _ in range(3)]
    counted = await asyncio.gather(
        *(store.record(batch) for batch in forth + back for store in stores)
    )
    assert sum(counted) == 2000
    counts = [(await stores[0].get(f"user{n}")).message_count for n in range(7)]
    assert counts == [len(messages[n::7]) for n in range(7)]
    days = [sum((await stores[1].activity(f"user{n}", 2)).values()) for n in range(7)]
    assert days == counts
    for store in stores:
        await store.database.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_the_server_delays_only_for_its_duration(
    postgres: Cluster, database_url: SecretStr, mode: str
) -> None:
    async with opened(database_url) as database:
        assert await works(database)
        with postgres.down(mode):
            with pytest.raises(Unavailable, match="try again later"):
                await works(database)
            with pytest.raises(Unavailable, match="can't be used"):
                async with opened(database_url):
                    pass
        assert await works(database)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_stops_in_the_middle_of_a_statement_can_not_be_reached(
    postgres: Cluster, database_url: SecretStr, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(statements: Statements) -> None:
        await statements.fetch("SELECT pg_sleep(9)")

    async def both_wait() -> bool:
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event IN ('PgSleep', 'relation')"
        return len(await run_sql(database_url, waiting)) == 2

    database = await PostgresDatabase.open(database_url, "chat", SCRIPTS)
    async with connected(database_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE chat.version")
        outcomes = asyncio.gather(database.check(), database.write(wait), return_exceptions=True)
        await eventually(both_wait)
        with postgres.down(mode):
            check, write = await outcomes
    assert str(check) == "PostgreSQL can't be used: it can't be reached"
    assert isinstance(write, Unavailable)
    assert isinstance(write.__cause__, Exception)
    # A failed rollback would hide the cause.
    assert "rollback" not in str(write.__cause__)
    assert "rollback" not in caplog.text
    assert await works(database)
    await database.close()


async def test_a_cause_for_which_all_requests_fail_is_logged_once_a_second(
    postgres: Cluster, database_url: SecretStr, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(database_url) as database:
        with postgres.down("fast"):
            began = time.monotonic()
            for _ in range(20):
                with pytest.raises(Unavailable):
                    await database.read("SELECT 1")
            took_s = time.monotonic() - began
        causes = {record.message for record in caplog.records}
        assert 0 < len(caplog.records) <= len(causes) * (took_s + 2)
        assert await works(database)


async def test_a_hung_server_is_given_up_in_time_and_works_again(
    postgres: Cluster, database_url: SecretStr, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(database_url) as database:
        assert await works(database)
        began = time.monotonic()
        with postgres.hung():
            outcomes = await asyncio.gather(
                *(database.read("SELECT 1") for _ in range(30)), return_exceptions=True
            )
            with pytest.raises(Unavailable, match="it doesn't answer in time"):
                await database.check()
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert "TimeoutError: no answer" in caplog.text
        assert time.monotonic() - began < 5
        assert await works(database)


async def test_a_search_that_takes_too_long_is_given_up_by_the_server_too(
    database_url: SecretStr,
) -> None:
    database = await PostgresDatabase.open(database_url, "chat", SCRIPTS)
    database.search_timeout_s = 0.2
    active = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"

    async def is_given_up() -> bool:
        return not await database.read(active, "SELECT pg_sleep(9%")

    with pytest.raises(TimedOut):
        await database.search("eve", "SELECT pg_sleep(9)")
    await eventually(is_given_up, 1)
    await database.close()


async def test_locks_of_a_lost_machine_are_soon_released(
    database_url: SecretStr,
) -> None:
    change = "UPDATE chat.version SET version = version"
    failures = []

    async def change_elsewhere() -> None:
        async with asyncio.timeout(3):
            await run_sql(database_url, change)

    async def stand_still(statements: Statements) -> None:
        await statements.fetch(change)
        with ThreadPoolExecutor(1) as another_machine:
            failures.append(another_machine.submit(asyncio.run, change_elsewhere()).exception())

    async with opened(database_url) as database:
        with pytest.raises(Unavailable):
            await database.write(stand_still)
        assert failures == [None]
        assert await works(database)


async def test_errors_do_not_tell_callers_about_the_database(database_url: SecretStr) -> None:
    async with opened(database_url) as database:
        with pytest.raises(Unavailable) as failure:
            await database.read("SELECT * FROM no_such_table")
    assert "no_such_table" not in str(failure.value)


async def test_a_start_without_a_server_does_not_tell_the_password() -> None:
    url = SecretStr("postgresql://user:hunter2@127.0.0.1:1/nowhere")
    with pytest.raises(Unavailable) as failure:
        async with opened(url):
            pass
    assert "hunter2" not in str(failure.value)


async def limited(database_url: SecretStr, connections: int) -> SecretStr:
    """The URL for a new role that may have so many connections."""
    role, database = f"role_{uuid4().hex}", urlsplit(database_url.get_secret_value()).path[1:]
    await run_sql(database_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections}")
    await run_sql(database_url, f"GRANT CREATE ON DATABASE {database} TO {role}")
    return SecretStr(database_url.get_secret_value().replace("postgres@", f"{role}@"))


async def test_idle_connections_are_released_to_others(database_url: SecretStr) -> None:
    url = await limited(database_url, 3)
    async with opened(url, idle_s=0.3) as busy, opened(url, idle_s=0.05) as other:
        await asyncio.sleep(0.1)  # until `other` has no connection
        await asyncio.gather(*(busy.read("SELECT pg_sleep(0.1)") for _ in range(3)))
        with pytest.raises(Unavailable, match="TooManyConnectionsError"):
            await other.check()
        await asyncio.sleep(0.5)
        await asyncio.gather(other.check(), other.check())


async def test_a_burst_shares_the_connections_that_the_server_gives_us(
    database_url: SecretStr,
) -> None:
    async with opened(await limited(database_url, 3)) as database:
        reads = [database.read("SELECT pg_sleep(0.01)") for _ in range(12)]
        assert len(await asyncio.gather(*reads)) == 12
        await database.check()


@pytest.mark.parametrize(
    ("harm", "mend", "words", "host"),
    [
        ("ALTER SCHEMA chat RENAME TO gone", "ALTER SCHEMA gone RENAME TO chat", "UndefinedTable",
         "any"),
        ("ALTER ROLE {} NOLOGIN", "ALTER ROLE {} LOGIN", "InvalidAuthorization", "any"),
        *(("ALTER ROLE {} SET default_transaction_read_only = on",
           "ALTER ROLE {} RESET default_transaction_read_only", "takes no writes", host)
          for host in ("any", "read-write")),
    ],
)  # fmt: skip
async def test_a_problem_is_reported_until_it_is_fixed(
    database_url: SecretStr, harm: str, mend: str, words: str, host: str
) -> None:
    role = f"role_{uuid4().hex}"
    await run_sql(database_url, f"CREATE ROLE {role} LOGIN SUPERUSER")
    given = database_url.get_secret_value().replace("postgres@", f"{role}@")
    url = SecretStr(f"{given}&target_session_attrs={host}")
    async with opened(url, idle_s=0.1) as database:
        for change, problem in ((harm, words), (mend, None)):
            await run_sql(database_url, change.format(role))
            await asyncio.sleep(0.3)  # until earlier, idle connections are closed
            if problem:
                with pytest.raises(Unavailable, match=problem):
                    await database.check()
        await database.check()
        assert await works(database)


async def test_connections_to_a_read_only_server_are_replaced(
    database_url: SecretStr,
) -> None:
    role = f"role_{uuid4().hex}"
    await run_sql(database_url, f"CREATE ROLE {role} LOGIN SUPERUSER")
    url = SecretStr(database_url.get_secret_value().replace("postgres@", f"{role}@"))
    async with opened(url):
        pass
    # Connections that are made from now on stay read-only, like those to a standby.
    await run_sql(database_url, f"ALTER ROLE {role} SET default_transaction_read_only = on")
    async with opened(url) as database:
        await asyncio.gather(*(database.read("SELECT pg_sleep(0.1)") for _ in range(3)))
        await run_sql(database_url, f"ALTER ROLE {role} RESET default_transaction_read_only")
        with pytest.raises(Unavailable, match="takes no writes"):
            await database.check()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await works(database)
        assert await works(database)
        await database.check()
