"""What tests in several folders need."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from xdist.scheduler import LoadFileScheduling

from lab.postgres import Cluster, Place, running_cluster
from tests.fault_table import leave_out_the_long, pytest_terminal_summary, report

__all__ = ["pytest_terminal_summary", "report"]

# One line is for one worker of xdist: either one file, or files that would each start a stack or a
# browser for a whole session. Each takes a minute. They start first, so that none is still running
# after all others. Those that use the CPU alternate with those that wait.
_LONGEST = (
    ["docs/test_typed_commands.py"],
    ["runner/test_stopping.py"],
    ["browser/"],
    ["replicas/test_proxied_replicas.py"],
    ["runner/test_starting.py"],
    [f"faults/test_{name}.py" for name in ("duplicates", "flood", "killed_processes",
                                           "locked_database", "slow_clients")],
    [f"dapr/test_{name}.py" for name in ("failures", "open_proxy", "proxied_calls", "restarts",
                                         "status")],
    ["runner/test_supervision.py"],
    ["dapr/test_commands.py"],
)  # fmt: skip

# A shell that starts tests in the background makes them and all their children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The objects that collecting creates stay to the end, so a collector would search them in vain.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def _rank(nodeid: str) -> int:
    """The test's line in `_LONGEST`, or their number."""
    names = (tuple(f"tests/{name}" for name in line) for line in _LONGEST)
    return next((n for n, line in enumerate(names) if nodeid.startswith(line)), len(_LONGEST))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_the_long(config, items)
    items.sort(key=lambda item: _rank(item.nodeid))


class _Scheduling(LoadFileScheduling):  # type: ignore[misc] # it has no types
    def _split_scope(self, nodeid: str) -> str:
        rank = _rank(nodeid)
        return str(super()._split_scope(nodeid)) if rank == len(_LONGEST) else f"line {rank}"


def pytest_xdist_make_scheduler(config: pytest.Config) -> LoadFileScheduling | None:
    return _Scheduling(config) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def database_url(postgres: Cluster) -> SecretStr:
    """A new database for the test."""
    return await postgres.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of database that a service can use, empty."""
    if request.param == "sqlite":
        return tmp_path / "daca.db"
    cluster: Cluster = request.getfixturevalue("postgres")
    return await cluster.new_database()


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Makes sure that what is closed was closed by its owner, and not by the garbage collector."""
    gc.disable()
    yield
    gc.enable()
