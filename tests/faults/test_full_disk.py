"""A full disk causes a clear error. Reads go on, and writes resume once there is room."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from lab.stack import RunningStack, eventually, http, running_stack
from tests.fault_table import Report
from tests.faults.conftest import counts_are_turns

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="only root can mount a small disk: a full one is NOT tested"
    ),
]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def on_small_disks(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningStack]:
    folder = tmp_path_factory.mktemp("disks")
    with small_disk(folder / "first") as first, small_disk(folder / "second") as second:

        def put_on_disks(system: RunningStack) -> None:
            for name, disk in ((system.analytics, first), (system.chat, second)):
                system.stack.services[name].environment["DACA_DATA_DIR"] = str(disk)

        async with running_stack(folder, None, put_on_disks) as system:
            yield system


@pytest.mark.parametrize("whose", ["analytics", "chat"])
async def test_a_full_disk_is_reported_and_recovered_from(
    on_small_disks: RunningStack, report: Report, whose: str
) -> None:
    system = on_small_disks
    user_id = f"user-{uuid4()}"
    _, first = await system.chat_with(user_id)
    await eventually(lambda: system.count(user_id), 1)
    environment = system.stack.services[getattr(system, whose)].environment
    ballast = fill(Path(environment["DACA_DATA_DIR"]))
    try:
        statuses, details = await _chat_until_refused(system, user_id, whose)
        read = await system.count(user_id)
        session = first["metadata"]["session_id"]
        url = f"{system.url}/conversations/{session}?user_id={user_id}"
        history, _ = await asyncio.to_thread(http, "GET", url)
    finally:
        ballast.unlink()
    after, _ = await system.chat_with(user_id)
    accepted = 1 + statuses.count(200) + 1
    await eventually(lambda: system.count(user_id), accepted)
    figures = {"while full": sorted(set(statuses)), "told": sorted(details), "count read": read}
    figures |= {"history": history, "with room": after, "counted": accepted}
    expected = {200} if whose == "analytics" else {503}
    told = {"The service's storage is unavailable; try again later"}
    bar = {
        f"only {expected} while full": set(statuses[-3:]) == expected,
        "no exception text": details <= told,
        "reads go on": read is not None and history == 200,
        "resumes": after == 200,
        "each count is its user's turns": await counts_are_turns(system, user_id),
    }
    report(f"full disk of {whose}", figures, bar)


async def _chat_until_refused(
    system: RunningStack, user_id: str, whose: str
) -> tuple[list[int], set[str]]:
    statuses: list[int] = []
    details: set[str] = set()
    for _ in range(30):
        # A few may still fit into the WAL file that SQLite has already allocated.
        status, body = await system.chat_with(user_id, "x" * 4000)
        statuses.append(status)
        if status != 200:
            details.add(body["detail"])
        if statuses[-3:] == [503] * 3 or (whose == "analytics" and len(statuses) == 8):
            break
    return statuses, details
