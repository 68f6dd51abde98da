"""Other users of this machine can't read files in the data folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daca_shared.storage.database import open_database
from scripts.running.claim import Claim

SCHEMA = Path(__file__).parents[2] / "chat_service/turns/schema"


@pytest.fixture(autouse=True)
def open_handed() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_up(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / "somebody's own").touch(0o644)


def modes(folder: Path) -> dict[str, str]:
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o7777:o}" for path in found}


async def write_something(folder: Path) -> dict[str, str]:
    """Use a database. Returns the modes of all its files while it is open."""
    database = await open_database(folder / "chat.db", "chat", SCHEMA)
    found = modes(folder)
    await database.close()
    return found


async def test_only_its_owner_can_read_a_database(tmp_path: Path) -> None:
    assert await write_something(tmp_path / "a/data") == {
        ".": "700", "chat.db": "600", "chat.db-wal": "600", "chat.db-shm": "600", "chat.lock": "600"
    }  # fmt: skip


async def test_a_database_that_others_could_read_is_protected(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await write_something(folder)
    open_up(folder)
    found = await write_something(folder)
    assert (found.pop("."), found.pop("somebody's own")) == ("700", "644")
    assert {*found.values()} == {"600"}


@pytest.fixture(params=[0o1777, 0o2770])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tmp_path.chmod(request.param)
    return tmp_path


async def test_a_folder_that_was_shared_on_purpose_stays_shared(shared: Path) -> None:
    before = modes(shared)["."]
    found = await write_something(shared)
    assert (found["."], found["chat.db"]) == (before, "600")


def test_the_runner_protects_files_of_earlier_versions(tmp_path: Path) -> None:
    names = ["logs/chat-service.log", "tracing/a.yaml", "names.yaml", "chat.db", "run.lock"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch(0o644)
    tmp_path.chmod(0o755)
    with Claim(tmp_path):
        found = modes(tmp_path)
    assert {found[name] for name in names} == {"600"}
    assert {found[name] for name in (".", "logs", "tracing")} == {"700"}
