"""A conversation's turns in two processes on one SQLite file, as in a rolling restart."""

import asyncio
import signal
import sys
from pathlib import Path
from uuid import UUID

import pytest

from chat_service.turns.memory import ConversationKey
from chat_service.turns.stores import open_stores
from chat_service.turns.turn_locks import FileTurnLocks
from daca_shared.domain import Unavailable

KEY = ConversationKey("alice", UUID(int=1))
HOLD = """
import asyncio, sys
from pathlib import Path
from uuid import UUID
from chat_service.turns.memory import ConversationKey
from chat_service.turns.turn_locks import FileTurnLocks
locks = FileTurnLocks(Path(sys.argv[1]))
print(asyncio.run(locks.try_lock(ConversationKey("alice", UUID(int=1)))), flush=True)
sys.stdin.read()
"""


async def test_a_turn_waits_for_another_processs_until_that_ends_or_is_killed(
    tmp_path: Path,
) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, tmp_path / "chat.lock",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout
    assert (await other.stdout.readline()).strip() == b"True"
    async with open_stores(tmp_path / "chat.db") as stores:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), stores.memory.turn(KEY):
                pass
        async with stores.memory.turn(ConversationKey("bob", KEY.session_id)):
            pass
        other.send_signal(signal.SIGKILL)
        await other.wait()
        async with asyncio.timeout(1), stores.memory.turn(KEY):
            pass


def test_an_unusable_lock_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can't be opened"):
        FileTurnLocks(tmp_path)
