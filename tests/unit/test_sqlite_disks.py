"""A SQLite file on a disk that fails writes: errors say so, and work resumes once it recovers."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.sqlite_files import add, numbers, opened, refuses, works


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "numbers.db"


@contextmanager
def full(folder: Path) -> Iterator[None]:
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    yield
    (folder / "ballast").unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


@contextmanager
def denied(folder: Path) -> Iterator[None]:
    """Run the context as a user that has no access to the folder."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def small_disk(path: Path) -> Iterator[Path]:
    path.parent.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path.parent], check=True)
    path.parent.chmod(0o700)
    yield path.parent
    subprocess.run(["umount", "--lazy", path.parent], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount: disks are NOT tested")
async def test_a_log_that_cannot_be_emptied_fails_neither_deletions_nor_writes_beside_them(
    small_disk: Path, path: Path
) -> None:
    database = await opened(path)
    for n in range(260):  # until SQLite begins its log (WAL) anew, in which there is room then
        await database.write(add(n))
    with full(small_disk):
        await asyncio.gather(database.write(add(1000)), database.purge(), database.write(add(1001)))
    assert {1000, 1001} <= set(await numbers(database))
    await database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount: disks are NOT tested")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (full, "No space left"),
        (read_only, "Read-only|cantopen"),
        (denied, "denied|out of reach|cantopen"),
    ],
)
async def test_a_disk_that_fails_writes_is_reported_until_it_recovers(
    small_disk: Path, path: Path, harm: Callable[[Path], AbstractContextManager[None]], words: str
) -> None:
    database = await opened(path)
    await database.write(add(1))
    with harm(small_disk):
        await refuses(database, words)
    await works(database, path)
    await database.close()
