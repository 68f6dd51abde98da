"""One runner for each data folder: a locked file, which also says what is running."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Self

from daca_shared.storage.files import keep_private
from scripts.lib.project import StackError

_NAME = "run.lock"
_OURS = ("*.db*", "*.lock", "names.yaml", "logs", "logs/*", "tracing", "tracing/*", "secure")


class Claim:
    """A data folder that is ours as long as somebody holds `descriptor`."""

    def __init__(self, data_dir: Path) -> None:
        """Raises `StackError` if the folder can't be used, or is in use."""
        try:
            # Earlier versions left files that others could read.
            keep_private(data_dir, *_OURS)
            self.descriptor = os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.record({})
        except BlockingIOError:
            raise StackError(_refusal(data_dir)) from None
        except OSError as error:
            raise StackError(f"DACA_DATA_DIR: {data_dir} can't be used: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)

    def record(self, services: dict[str, Any]) -> None:
        """Record what is running, for `recorded`."""
        text = json.dumps({"pid": os.getpid(), "services": services})
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)


def recorded(data_dir: Path) -> dict[str, Any]:
    """What the folder's runner has recorded: its `pid`, and its `services`. Empty if no runner is
    alive."""
    try:
        found: dict[str, Any] = json.loads((data_dir / _NAME).read_text())
        os.kill(found["pid"], 0)
    except PermissionError:
        return found
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}
    return found


def _refusal(data_dir: Path) -> str:
    runner = recorded(data_dir)
    if not runner:
        return f"what a killed stack has left in {data_dir} is still ending: try again in a moment"
    return (
        f"{data_dir} is in use by another scripts/run.sh, process {runner['pid']}: "
        f"end that (kill {runner['pid']}), or set DACA_DATA_DIR to another folder"
    )
