"""Files: private ones, and those for one process at a time."""

import fcntl
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path


def keep_private(folder: Path, *patterns: str) -> None:
    """Create the folder, and keep other users of this machine out of it, and of what in it matches
    `patterns`. A folder that is shared on purpose, by its sticky or setgid bit, stays open."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    with suppress(PermissionError):  # it belongs to another user
        if not folder.stat().st_mode & (stat.S_ISVTX | stat.S_ISGID):
            folder.chmod(0o700)
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            with suppress(FileNotFoundError):  # a link to nothing, or just removed
                path.chmod(0o700 if path.is_dir() else 0o600)


def lock(path: Path, exits: ExitStack) -> None:
    """Lock this file until `exits` is closed. Raises `OSError` if another process has locked it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    exits.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        problem = f"process {pid} uses this data folder, which is for one process at a time"
        raise OSError(problem) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
