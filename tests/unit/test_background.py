"""What runs beside requests."""

import asyncio

import pytest

from daca_shared.service import running


async def test_work_that_fails_unexpectedly_is_logged_and_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    goes_on = asyncio.Event()

    async def work() -> None:
        if not caplog.records:
            raise RuntimeError("can't start new thread")
        goes_on.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5), running(work):
        await goes_on.wait()
    assert "can't start new thread" in caplog.text


async def test_work_ends_with_its_context() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(5), running(work):
        await asyncio.sleep(0)
    assert ended.is_set()
