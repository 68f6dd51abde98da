"""What tests in several folders need."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from daca_shared.service import use_eager_tasks
from lab.postgres import Cluster, Place, running_cluster
from tests.fault_table import leave_out_the_long, pytest_terminal_summary, report

__all__ = ["pytest_terminal_summary", "report"]

# Each line runs in one worker of xdist, for about a minute: one file, or files that share a stack
# or a browser for the session. These lines start first, so that none is still running after all
# other tests. Lines that use the CPU alternate with lines that wait.
_LONGEST = (
    ("tests/docs/test_typed_commands.py",),
    ("tests/runner/test_stopping.py",),
    # Two browsers, as one would be busy for longer than all the rest takes.
    tuple(f"tests/browser/test_{letter}" for letter in "bcdfikl"),
    ("tests/browser/",),
    ("tests/replicas/test_proxied_replicas.py",),
    ("tests/runner/test_starting.py",),
    tuple(f"tests/faults/test_{name}.py" for name in (
        "duplicates", "flood", "killed_processes", "locked_database", "slow_clients")),
    tuple(f"tests/dapr/test_{name}.py" for name in (
        "failures", "open_proxy", "proxied_calls", "restarts", "status")),
    ("tests/runner/test_supervision.py",),
    ("tests/dapr/test_commands.py",),
    ("tests/faults/test_network.py",),
)  # fmt: skip

# A shell that starts tests in the background makes them and all their children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Garbage is collected only between tests, below: in a test, only its owner may close a resource.
# Objects that are made while tests are found stay to the end, and need not be searched.
gc.disable()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"eager": _new_loop}


def _new_loop() -> asyncio.AbstractEventLoop:
    """The event loop of the services."""
    loop = asyncio.new_event_loop()
    use_eager_tasks(loop)
    return loop


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    # Without groups, all workers would start each stack and each browser, and nobody would notice.
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert all("@" in item.nodeid for item in session.items), "pytest-xdist groups no tests"


def _rank(item: pytest.Item) -> int:
    """The index of the test's line in `_LONGEST`; for all other tests, the number of lines."""
    lines = enumerate(_LONGEST)
    return next((n for n, line in lines if item.nodeid.startswith(line)), len(_LONGEST))


# Before xdist looks at the groups, which it appends to the names of the tests.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_the_long(config, items)
    items.sort(key=_rank)
    for item in items:
        rank = _rank(item)
        group = item.path.stem if rank == len(_LONGEST) else str(rank)
        item.add_marker(pytest.mark.xdist_group(group))


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Find at once what a test has left open. The next test's setup reports it as an error, because
    a test may hold things until it has ended."""
    done = yield
    gc.collect()
    gc.freeze()  # the next collection skips what is left
    return done


def pytest_sessionfinish() -> None:
    # pytest searches for garbage five times at the end. Once is enough, and takes half a second.
    gc.collect()
    gc.freeze()
