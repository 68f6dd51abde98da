"""Both services on their own real servers, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from chat_service.grpc.servicer import ChatServicer
from daca.chat.v1 import chat_pb2_grpc
from daca_shared.calls.server import GrpcServer
from tests.fakes import FREE, FakeChat, channel_to, listening


async def nothing() -> AsyncIterator[bytes]:
    """Requests that don't come."""
    await asyncio.Event().wait()
    yield b""


@asynccontextmanager
async def serving(servicer: ChatServicer, **options: Any) -> AsyncIterator[GrpcServer]:
    """A server of chat with these options."""
    server = GrpcServer(**options)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)
    async with listening(server):
        yield server


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AnalyticsStore]:
    store = await AnalyticsStore.open(tmp_path / "analytics.db", seed_demo_users=True)
    yield store
    await store.database.close()


@pytest.fixture
async def analytics_server(store: AnalyticsStore) -> AsyncIterator[GrpcServer]:
    async with listening(build_server(store)) as server:
        yield server


@pytest.fixture
async def analytics_channel(analytics_server: GrpcServer) -> AsyncIterator[aio.Channel]:
    async with channel_to(analytics_server) as channel:
        yield channel


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
def chat_servicer(chat: FakeChat) -> ChatServicer:
    return ChatServicer(chat.conversation, chat.turns, chat.admission, **FREE)


@pytest.fixture
async def chat_server(chat_servicer: ChatServicer) -> AsyncIterator[GrpcServer]:
    async with serving(chat_servicer) as server:
        yield server


@pytest.fixture
async def chat_channel(chat_server: GrpcServer) -> AsyncIterator[aio.Channel]:
    async with channel_to(chat_server) as channel:
        yield channel
