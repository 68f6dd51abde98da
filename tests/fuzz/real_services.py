"""Both services as they run, in this process: their stores, outbox, agent and servers are
the real ones. Only the model is the offline one, without its pauses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents import ModelSettings
from fastapi import FastAPI
from grpc import aio
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from analytics_service.__main__ import SERVICE_NAME as ANALYTICS
from analytics_service.__main__ import build_server, open_store
from chat_service.__main__ import SERVICE_NAME as CHAT
from chat_service.__main__ import analytics_peer
from chat_service.access.overload import CountChats, Load
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.agent.offline import OfflineModel
from chat_service.chat.conversation import Conversation
from chat_service.grpc.servicer import ChatServicer
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledAnalytics
from chat_service.settings import ChatSettings
from chat_service.turns.history import History
from chat_service.turns.stores import open_stores, sending
from chat_service.web.gateway import build_gateway
from daca.chat.v1 import chat_pb2_grpc
from daca_shared.calls.server import GrpcServer
from tests.fakes import channel_to, listening

SECRET = "sk-planted-5ecret"
"""The key and the token of these services; no log may hold it."""


@dataclass(frozen=True)
class Services:
    """What can be called."""

    gateway: FastAPI
    chat: aio.Channel
    analytics: aio.Channel


@asynccontextmanager
async def running_services(folder: Path, load: Load) -> AsyncIterator[Services]:
    """Both services with their data in `folder`. Analytics stands in for the chat service's
    sidecar too, so that the planted token really travels."""
    async with AsyncExitStack() as stack:
        stack.callback(asyncio.create_task(load.watch()).cancel)
        store = await open_store(folder / "analytics.db", seed_demo_users=True)
        stack.push_async_callback(store.close)
        analytics_server = await stack.enter_async_context(
            listening(build_server(store), [ANALYTICS])
        )
        settings = ChatSettings.model_validate(
            {
                "DACA_DATA_DIR": folder,
                "DAPR_GRPC_PORT": analytics_server.port,
                "DAPR_API_TOKEN": SECRET,
                "OPENAI_API_KEY": SECRET,
            }
        )
        analytics = AnalyticsClient(analytics_peer(settings))
        stack.push_async_callback(analytics.close)
        stores = await stack.enter_async_context(open_stores(settings.database))
        outbox = await stack.enter_async_context(sending(stores.outbox_rows, analytics))
        settled = SettledAnalytics(analytics, outbox)
        conversation = Conversation(
            settled,
            outbox,
            stores.memory,
            ChatAgent(ChatModel("offline", OfflineModel(pause_s=0), ModelSettings())),
            max_text_length=settings.max_text_length,
            timeout_s=settings.timeout_s,
        )
        stack.push_async_callback(conversation.close)
        history = History(stores.archive)
        chat_server = GrpcServer()
        servicer = ChatServicer(conversation, history, load)
        chat_server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)
        await stack.enter_async_context(listening(chat_server, [CHAT]))
        status = Status(analytics, outbox, load, model="offline")
        yield Services(
            build_gateway(
                conversation, history, settled, status, cors_origins=settings.cors_origins
            ),
            await stack.enter_async_context(channel_to(chat_server)),
            await stack.enter_async_context(channel_to(analytics_server)),
        )


def real_gateway(folder: Path, load: Load) -> ASGIApp:
    """The gateway of `running_services`, which live as long as the server that serves it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, FastAPI]]:
        async with running_services(folder, load) as services:
            yield {"gateway": services.gateway}

    services = Starlette(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        serve = services if scope["type"] == "lifespan" else scope["state"]["gateway"]
        await serve(scope, receive, send)

    return CountChats(app, load)
