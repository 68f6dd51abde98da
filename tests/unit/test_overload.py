import asyncio
import time
from contextlib import ExitStack

import pytest

from chat_service.access.overload import Load
from daca_shared.domain import Unavailable


def fill(load: Load, stack: ExitStack, chats: int) -> None:
    for _ in range(chats):
        stack.enter_context(load.one_more())


def test_a_late_event_loop_turns_away_only_what_is_beyond_a_few_chats() -> None:
    load = Load()
    load.lag_s = 1
    with ExitStack() as stack:
        fill(load, stack, 20)
        with pytest.raises(Unavailable) as refused, load.one_more():
            pass
        assert refused.value.retry_after_s == 1
        load.lag_s = 0
        fill(load, stack, 1)
    assert load.chats == 0


def test_there_is_a_most_even_for_chats_that_only_wait() -> None:
    load = Load(22)
    with ExitStack() as stack:
        fill(load, stack, 22)
        with pytest.raises(Unavailable), load.one_more():
            pass


async def test_the_lag_shows_lasting_work_and_not_one_pause() -> None:
    load = Load()
    load.chats = 10
    load.is_too_much()
    watching = asyncio.create_task(load.watch())
    await asyncio.sleep(0.05)
    idle_s = load.lag_s
    time.sleep(0.02)  # noqa: ASYNC251  # that is what must not happen, happening
    await asyncio.sleep(0)
    one_pause_s = load.lag_s
    for _ in range(20):
        time.sleep(0.06)  # noqa: ASYNC251
        await asyncio.sleep(0.001)
    assert max(idle_s, one_pause_s) < 0.015 < load.lag_s
    load.chats = 9
    await asyncio.sleep(0.01)
    assert load.lag_s == 0, "with few chats nobody asks for it, and measuring has its cost"
    watching.cancel()


async def test_a_few_that_come_together_are_admitted_while_there_is_little_to_do() -> None:
    load = Load()
    load.chats = 100
    watching = asyncio.create_task(load.watch())
    await asyncio.sleep(0.03)
    assert [load.is_too_much() for _ in range(4)] == [False, False, False, True]
    await asyncio.sleep(0.03)
    assert not any(load.is_too_much() for _ in range(3))
    watching.cancel()


async def test_of_a_burst_only_a_few_are_admitted_before_they_show_as_chats() -> None:
    load = Load()
    assert [load.is_too_much() for _ in range(25)] == [False] * 23 + [True] * 2
    watching = asyncio.create_task(load.watch())
    await asyncio.sleep(0.03)
    assert not load.is_too_much(), "heads without bodies are in nobody's way"
    watching.cancel()


async def test_chats_start_together_if_there_are_many() -> None:
    load = Load()
    alone = asyncio.create_task(load.start_together())
    await asyncio.sleep(0)
    assert alone.done()
    load.chats = 10
    first = asyncio.create_task(load.start_together())
    await asyncio.sleep(0.003)
    second = asyncio.create_task(load.start_together())
    given_up = asyncio.create_task(load.start_together())
    await asyncio.sleep(0)
    given_up.cancel()
    assert await asyncio.wait({first}, timeout=1) == ({first}, set())
    await asyncio.sleep(0)
    assert second.done()
    next_one = asyncio.create_task(load.start_together())
    await asyncio.sleep(0)
    assert not next_one.done()
    await next_one


async def test_the_log_tells_how_many_were_turned_away_but_not_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    load = Load()
    load.chats, load.lag_s = 1000, 1
    assert all(load.is_too_much() for _ in range(9))
    watching = asyncio.create_task(load.watch())
    assert load.is_too_much()
    await asyncio.sleep(0.03)
    assert load.is_too_much()
    await asyncio.sleep(0.03)
    watching.cancel()
    assert [r.getMessage() for r in caplog.records] == ["overload: 1 chats were turned away"]
