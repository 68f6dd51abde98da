import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from analytics_service.store import MAX_BATCH, AnalyticsStore, MessageBatch, SentMessage
from daca_shared.domain import NotFound, Unavailable
from lab.postgres import Place

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@asynccontextmanager
async def opened(place: Place, *, seed: bool = False) -> AsyncIterator[AnalyticsStore]:
    store = await AnalyticsStore.open(place, seed_demo_users=seed)
    try:
        yield store
    finally:
        await store.database.close()


@pytest.fixture
async def store(place: Place) -> AsyncIterator[AnalyticsStore]:
    async with opened(place) as store:
        yield store


def batch(*ids: UUID, user_id: str = "carol", at: datetime = NOW) -> MessageBatch:
    messages = [SentMessage(message_id=id_, user_id=user_id, sent_time=at) for id_ in ids]
    return MessageBatch(messages=tuple(messages))


async def count(store: AnalyticsStore, user_id: str = "carol") -> int | None:
    try:
        return (await store.get(user_id)).message_count
    except NotFound:
        return None


@pytest.mark.parametrize(("seed", "counts"), [(True, (5, 3, None)), (False, (None, None, None))])
async def test_seeds_alice_and_bob_only_when_asked(
    place: Place, seed: bool, counts: tuple[int | None, ...]
) -> None:
    async with opened(place, seed=seed) as store:
        assert tuple([await count(store, u) for u in ("alice", "bob", "charlie")]) == counts


async def test_seeds_a_fresh_store_only(place: Place) -> None:
    async with opened(place, seed=False) as store:
        await store.record(batch(uuid4()))
    async with opened(place, seed=True) as store:
        assert (await count(store), await count(store, "alice")) == (1, None)


async def test_keeps_counts_across_a_reopen(place: Place) -> None:
    async with opened(place, seed=True) as store:
        await store.record(batch(uuid4(), user_id="alice"))
    async with opened(place, seed=True) as store:
        assert (await count(store, "alice"), await count(store, "bob")) == (6, 3)


async def test_an_unknown_user_is_not_found(store: AnalyticsStore) -> None:
    with pytest.raises(NotFound, match=r"^User not found$"):
        await store.get("carol")


async def test_an_id_counts_once_within_a_batch(store: AnalyticsStore) -> None:
    same = uuid4()
    assert await store.record(batch(same, uuid4(), same)) == 2
    assert await count(store) == 2


async def test_an_id_counts_once_across_batches_users_and_reopens(place: Place) -> None:
    same = uuid4()
    async with opened(place) as store:
        assert await store.record(batch(same)) == 1
        assert await store.record(batch(same, uuid4())) == 1
    async with opened(place) as store:
        assert await store.record(batch(same)) == 0
        assert await store.record(batch(same, user_id="dave")) == 0
        assert (await count(store), await count(store, "dave")) == (2, None)


async def test_200_concurrent_senders_of_the_same_ids_count_them_once(
    store: AnalyticsStore,
) -> None:
    ids = [uuid4() for _ in range(10)]
    counted = await asyncio.gather(*(store.record(batch(*ids)) for _ in range(200)))
    assert (sum(counted), await count(store)) == (10, 10)


@pytest.mark.parametrize("later_first", [True, False])
async def test_last_message_time_is_the_latest_in_any_order(
    store: AnalyticsStore, later_first: bool
) -> None:
    times = [NOW - timedelta(days=1), NOW]
    for at in reversed(times) if later_first else times:
        await store.record(batch(uuid4(), at=at))
    assert (await store.get("carol")).last_message_time == NOW


async def test_a_repeated_id_does_not_move_the_last_message_time(store: AnalyticsStore) -> None:
    same = uuid4()
    await store.record(batch(same))
    await store.record(batch(same, at=NOW + timedelta(days=1)))
    assert (await store.get("carol")).last_message_time == NOW


async def test_a_demo_user_has_no_last_message_time_until_a_message(place: Place) -> None:
    async with opened(place, seed=True) as store:
        assert (await store.get("alice")).last_message_time is None
        await store.record(batch(uuid4(), user_id="alice"))
        assert (await store.get("alice")).last_message_time == NOW


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_any_time_that_a_message_can_carry_is_kept_exactly(
    store: AnalyticsStore, at: str
) -> None:
    await store.record(batch(uuid4(), at=datetime.fromisoformat(at)))
    assert (await store.get("carol")).last_message_time == datetime.fromisoformat(at)


async def test_a_full_batch_is_recorded(store: AnalyticsStore) -> None:
    assert await store.record(batch(*(uuid4() for _ in range(MAX_BATCH)))) == MAX_BATCH


async def test_an_unusable_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "analytics.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match=r"analytics\.db can't be opened"):
        await AnalyticsStore.open(tmp_path / "analytics.db", seed_demo_users=False)
