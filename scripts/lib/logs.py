"""A process's log: bounded in size, and made again when somebody has removed it."""

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

MAX_BYTES = 20_000_000
_PIECE_BYTES = 2**20


class Log:
    """Rotated by moving the content, not the file, as the process writes to the same open file as
    long as it runs."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._older = path.with_name(f"{path.name}.1")
        self._max_bytes = max_bytes
        self._file: FileIO | None = None

    def begin(self) -> None:
        """Put aside the log of an earlier stack."""
        with suppress(FileNotFoundError):
            self.path.replace(self._older)

    def open(self) -> FileIO:
        """Open the file for the process to append to."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.close()
        self._file = self.path.open("a+b", buffering=0)
        return self._file

    def close(self) -> None:
        """Close the file, once the process has ended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def tidy(self) -> None:
        """Move the content to the older file if it is too long, and to a new file if the file was
        removed."""
        if self._file is None:
            return
        with suppress(OSError):
            if not self._is_there(self._file):
                self._move(self._file, self.path, "ab")
                if self.path.stat().st_size > self._max_bytes:
                    self.path.replace(self._older)
            elif self.path.stat().st_size > self._max_bytes:
                self._move(self._file, self._older, "wb")

    def end(self, lines: int) -> list[str]:
        """Its last lines."""
        try:
            return self.path.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def _is_there(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _move(self, file: FileIO, target: Path, mode: str) -> None:
        copied = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open(mode) as copy:
                # Not from the file's position, which the process shares, and moves as it writes.
                while piece := os.pread(file.fileno(), _PIECE_BYTES, copied):
                    copied += copy.write(piece)
        finally:
            # On a full disk the content is lost, but doesn't grow for ever.
            file.truncate(0)
