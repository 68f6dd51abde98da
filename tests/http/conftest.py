"""A gateway with fakes, called without a socket."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fakes import FakeChat
from tests.http.gateways import gateway


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(chat) as client:
        yield client
