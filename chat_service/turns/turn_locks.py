"""Locks on conversations between the chat processes of one machine."""

import fcntl
from hashlib import blake2b
from pathlib import Path

from chat_service.turns.memory import ConversationKey
from daca_shared.domain import Unavailable

_OFFSETS = 2**62


class FileTurnLocks:
    """`memory.TurnLocks` in a file that stays empty: each conversation is a byte that one
    process may lock. That takes microseconds, and the system unlocks what a process leaves."""

    def __init__(self, path: Path) -> None:
        """Raises `Unavailable`. A process may open a path once: closing it unlocks all."""
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise Unavailable(f"The lock file {path} can't be opened: {error}") from error

    async def try_lock(self, key: ConversationKey) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, key: ConversationKey) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        self._file.close()


def _offset(key: ConversationKey) -> int:
    # Two conversations with the same number, if ever, only wait for each other.
    digest = blake2b(key.session_id.bytes + key.user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _OFFSETS
