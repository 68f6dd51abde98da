"""Both real services in this process, with their real stores, outbox, agent and servers. Only the
model is the offline one, without its pauses. Nobody is refused for the loop's lag, because tests
keep the loop as busy as they can."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents import ModelSettings
from grpc import aio
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from chat_service.access.admission import Admission
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.agent.offline import OfflineModel
from chat_service.app import SCHEMA
from chat_service.chat.conversation import Conversation
from chat_service.grpc.servicer import ChatServicer
from chat_service.health.metrics import measured
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledCounts
from chat_service.outbox.outbox import Outbox
from chat_service.settings import ChatSettings
from chat_service.turns.leases import TurnLocks
from chat_service.turns.store import TurnStore
from chat_service.web.gateway import build_gateway
from daca.chat.v1 import chat_pb2_grpc
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import find_peer
from daca_shared.storage.database import open_database
from tests.fakes import ANY_HOST, FREE, channel_to, listening, sending

SECRET = "sk-planted-5ecret"
"""The key and the token of these services, which no log may contain."""


@dataclass(frozen=True)
class Services:
    """The APIs of both services, and some of their parts."""

    gateway: ASGIApp
    chat: aio.Channel
    analytics: aio.Channel
    conversation: Conversation
    outbox: Outbox
    admission: Admission


def offline() -> ChatModel:
    return ChatModel("offline", OfflineModel(pause_s=0), ModelSettings())


@asynccontextmanager
async def running_services(folder: Path, model: ChatModel | None = None) -> AsyncIterator[Services]:
    """Run both services with their data in `folder`. Chat calls analytics directly, in place of its
    sidecar, so that the planted token is really sent."""
    async with AsyncExitStack() as stack:
        store = await AnalyticsStore.open(folder / "analytics.db", seed_demo_users=True)
        stack.push_async_callback(store.database.close)
        analytics_server = await stack.enter_async_context(listening(build_server(store)))
        settings = ChatSettings.model_validate(
            {
                "DACA_DATA_DIR": folder,
                "DAPR_GRPC_PORT": analytics_server.port,
                "DAPR_API_TOKEN": SECRET,
                "OPENAI_API_KEY": SECRET,
            }
        )
        assert isinstance(settings.database, Path)
        peer = find_peer(settings, settings.analytics_app_id, settings.analytics_address)
        analytics = AnalyticsClient(peer)
        stack.push_async_callback(analytics.close)
        database = await open_database(settings.database, "chat", SCHEMA)
        stack.push_async_callback(database.close)
        outbox = await stack.enter_async_context(sending(Outbox(database, analytics.record)))
        locks = TurnLocks()
        turns = TurnStore(database, outbox, locks)
        model = measured(model or offline(), settings.model_timeout_s)
        stack.push_async_callback(model.close)
        conversation = Conversation(
            SettledCounts(analytics, outbox),
            turns,
            locks,
            ChatAgent(model),
            max_text_length=settings.max_text_length,
            timeout_s=settings.timeout_s,
        )
        stack.push_async_callback(conversation.close)
        admission = Admission()
        chat_server = GrpcServer()
        servicer = ChatServicer(conversation, turns, admission, **FREE)
        chat_server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)
        await stack.enter_async_context(listening(chat_server))
        yield Services(
            build_gateway(
                conversation,
                turns,
                analytics,
                Status(analytics, outbox, admission, model=model.name),
                admission,
                outbox=outbox,
                cors_origins=settings.cors_origins,
                hosts=ANY_HOST,
                **FREE,
            ),
            await stack.enter_async_context(channel_to(chat_server)),
            await stack.enter_async_context(channel_to(analytics_server)),
            conversation,
            outbox,
            admission,
        )


def real_gateway(folder: Path) -> ASGIApp:
    """The gateway of `running_services`, which run as long as its server."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, ASGIApp]]:
        async with running_services(folder) as services:
            yield {"gateway": services.gateway}

    services = Starlette(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        serve = services if scope["type"] == "lifespan" else scope["state"]["gateway"]
        await serve(scope, receive, send)

    return app
