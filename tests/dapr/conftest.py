"""Real daprd processes, with their own app ids and ports."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from lab.machine import tool
from lab.stack import UNSET, RunningStack, running_stack


@pytest.fixture(scope="session")
def daprd() -> Path:
    return tool("DAPRD")


@pytest.fixture(autouse=True, scope="session")
def no_keys() -> Iterator[None]:
    """Hide the developer's own keys and settings from the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in UNSET.items():
            patch.setenv(name, value)
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    tmp_path_factory: pytest.TempPathFactory, daprd: Path
) -> AsyncIterator[RunningStack]:
    async with running_stack(tmp_path_factory.mktemp("stack"), daprd) as running:
        yield running
