"""The composition root: settings → stores, agent → use case → gRPC server and HTTP gateway,
all on one event loop."""

import asyncio
import gc
import logging
import sys

import uvicorn
import uvloop
from starlette.types import ASGIApp

from chat_service.access.identity import choose_identity
from chat_service.access.overload import CountChats, Load
from chat_service.access.rates import Rates
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import choose_model
from chat_service.chat.conversation import Conversation
from chat_service.grpc.servicer import ChatServicer
from chat_service.health.metrics import count_fallback, measured, observed
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledAnalytics
from chat_service.settings import ChatSettings
from chat_service.turns.history import History
from chat_service.turns.stores import open_stores, sending
from chat_service.web.gateway import build_gateway
from chat_service.web.http_protocol import Gateway, limited_http, listen
from chat_service.web.http_spans import TraceHttp
from chat_service.web.reporting import RequestReporter
from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from daca_shared.calls.ports import PortTaken
from daca_shared.calls.server import GrpcServer, stop_signal
from daca_shared.calls.sidecar import Peer, find_peer
from daca_shared.domain import DomainError
from daca_shared.observe.logs import configure_logging
from daca_shared.observe.metrics import serving_metrics, watch_lag
from daca_shared.observe.tracing import Tracing, choose_tracing

log = logging.getLogger("chat_service")
# How long whoever asks for a count over HTTP waits for the user's last messages to be in it.
_PATIENCE_S = 0.2
SERVICE_NAME = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name


async def run(settings: ChatSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_signal()
    model = choose_model(settings)
    if model.name == "offline":
        log.warning("no model key is set: replies come from the labelled offline model")
    peer = analytics_peer(settings)
    log.info("model %s; analytics through %s", model.name, peer.address)
    tracing = choose_tracing(settings, "chat_service")
    analytics = AnalyticsClient(peer, tracing.client_interceptors)
    load = Load(settings.max_concurrent)
    try:
        async with (
            open_stores(settings.database, tracing) as stores,
            sending(stores.outbox_rows, analytics, tracing) as outbox,
        ):
            conversation = Conversation(
                SettledAnalytics(analytics, outbox),
                outbox,
                stores.memory,
                ChatAgent(measured(model), tracing),
                max_text_length=settings.max_text_length,
                timeout_s=settings.timeout_s,
                on_no_count=count_fallback,
                tracing=tracing,
            )
            try:
                with (
                    serving_metrics(settings, settings.metrics_port, "CHAT_METRICS_PORT"),
                    observed(load, outbox, conversation),
                ):
                    await _serve(
                        settings,
                        conversation,
                        History(stores.archive),
                        SettledAnalytics(analytics, outbox, patience_s=_PATIENCE_S),
                        load,
                        status=Status(
                            analytics, outbox, load, model=model.name, stopping=stop.is_set
                        ),
                        stop=stop,
                        tracing=tracing,
                    )
            finally:
                await conversation.close()
    finally:
        await analytics.close()
        await model.close()
        await tracing.close()


async def _serve(
    settings: ChatSettings,
    conversation: Conversation,
    history: History,
    analytics: SettledAnalytics,
    load: Load,
    *,
    status: Status,
    stop: asyncio.Event,
    tracing: Tracing,
) -> None:
    grace_s = settings.shutdown_grace_s
    watching = [asyncio.create_task(watch) for watch in (load.watch(), watch_lag())]
    identity = choose_identity(settings)
    rates = Rates(settings.rate_limit_user, settings.rate_limit_address)
    gateway_app = build_gateway(
        conversation,
        history,
        analytics,
        status,
        cors_origins=settings.cors_origins,
        identity=identity,
        rates=rates,
    )
    app: ASGIApp = RequestReporter(CountChats(gateway_app, load))
    if tracing.tracer is not None:
        app = TraceHttp(app, tracing.tracer)
    proxies = [str(network) for network in settings.trusted_proxies]
    gateway = Gateway(
        uvicorn.Config(
            app,
            http=limited_http(load),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(grace_s) or 1,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
        )
    )
    server = GrpcServer(app_api_token=settings.app_api_token, tracing=tracing)
    servicer = ChatServicer(conversation, history, load, identity, rates)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)

    with listen(settings.host, settings.http_port) as http_socket:
        await server.start([SERVICE_NAME], settings.host, settings.grpc_port, "CHAT_GRPC_PORT")
        serving = asyncio.create_task(gateway.serve(sockets=[http_socket]))
        host, port = http_socket.getsockname()[:2]
        log.info("serving HTTP on %s:%d, gRPC on %s:%d", host, port, host, server.port)
        # What the imports have left stays: walking through it again and again to find garbage
        # would hold the event loop up for a tenth of a second each time.
        gc.collect()
        gc.freeze()
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        await server.drain()
        await asyncio.sleep(settings.drain_s)
        gateway.should_exit = True
        await asyncio.gather(serving, server.stop(grace_s))
    for task in watching:
        task.cancel()


def analytics_peer(settings: ChatSettings) -> Peer:
    """The way to analytics."""
    token = settings.dapr_api_token
    return find_peer(
        settings.analytics_app_id,
        sidecar_grpc_port=settings.dapr_grpc_port,
        api_token=token.get_secret_value() if token else None,
        direct_address=settings.analytics_address,
    )


def main() -> None:
    """Start from the environment; a set-up error ends it with one clear line."""
    settings = ChatSettings.from_environment()
    configure_logging(
        settings.log_level, secrets=settings.secrets(), show_user_ids=settings.log_user_ids
    )
    try:
        uvloop.run(run(settings))
    except (DomainError, PortTaken, ValueError) as error:
        sys.exit(f"chat_service: {error}")


if __name__ == "__main__":
    main()
