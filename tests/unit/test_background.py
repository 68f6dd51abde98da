"""What runs beside requests."""

import asyncio
import sys

import anyio
import pytest
import uvloop

from daca_shared.service import running, use_eager_tasks


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


@pytest.mark.skipif((3, 13) <= sys.version_info < (3, 13, 3), reason="this Python and uvloop can't")
def test_tasks_are_eager_but_not_those_of_anyio_which_relies_on_that() -> None:
    begun = []

    async def work(name: str) -> None:
        begun.append(name)

    async def begin() -> None:
        task = asyncio.create_task(work("ours"))
        assert begun == ["ours"]
        await task
        async with anyio.create_task_group() as group:
            group.start_soon(work, "anyio's")
            assert begun == ["ours"]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        use_eager_tasks(runner.get_loop())
        runner.run(begin())
    assert begun == ["ours", "anyio's"]
