"""What tests of several folders need."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from lab.postgres import Cluster, Place, running_cluster
from tests.fault_table import pytest_collection_modifyitems, pytest_terminal_summary, report

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "report"]

# A shell that starts tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def database_url(postgres: Cluster) -> SecretStr:
    """A database of the test's own."""
    return await postgres.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each of the places in which a service can keep what it knows, empty."""
    if request.param == "sqlite":
        return tmp_path / "daca.db"
    cluster: Cluster = request.getfixturevalue("postgres")
    return await cluster.new_database()


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Whatever is closed has then been closed by its owner, and at once."""
    gc.disable()
    yield
    gc.enable()
