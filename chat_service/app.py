"""The composition root: everything is built and connected here, on one event loop."""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from chat_service.access.admission import Admission, most_chats
from chat_service.access.identity import choose_identity
from chat_service.access.rates import Rates
from chat_service.access.trusted_hosts import TrustedHosts
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import choose_model
from chat_service.chat.conversation import READING_S, Conversation
from chat_service.extensions import connected, extended
from chat_service.grpc.servicer import ChatServicer
from chat_service.health.metrics import measured, observed
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledCounts
from chat_service.outbox.outbox import Outbox
from chat_service.settings import ChatSettings
from chat_service.turns.leases import TurnLeases, TurnLocks
from chat_service.turns.store import TurnStore
from chat_service.web.gateway import build_gateway
from chat_service.web.server import HttpServer
from daca.chat.v1 import chat_pb2_grpc
from daca_shared.addresses import address
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import find_peer
from daca_shared.domain import MOMENT_S, Failed
from daca_shared.observe.metrics import serving_metrics, watch_lag
from daca_shared.observe.tracing import tracing
from daca_shared.service import running, stop_signal
from daca_shared.storage.database import open_database

log = logging.getLogger("chat_service")

SCHEMA = Path(__file__).with_name("turns") / "schema"


class _Threads(ThreadPoolExecutor):
    """Turns a blocking tool's `SystemExit` (argparse raises it) and `StopIteration` into ordinary
    failures: otherwise the first would end the service, and the second hang its chat."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def work_on() -> Any:
            try:
                return work(*args, **kwargs)
            except (SystemExit, StopIteration) as error:
                raise RuntimeError(f"it has raised {error!r}") from error

        return super().submit(work_on)


async def run(settings: ChatSettings) -> None:
    """Serve until told to stop. Raises `DomainError` or `PortTaken` if that can't be done."""
    # Each blocking tool occupies a thread. By default there are only six on two cores.
    asyncio.get_running_loop().set_default_executor(_Threads(256))
    async with AsyncExitStack() as stack:
        tracing.start(settings, "chat_service")
        stack.push_async_callback(tracing.close)

        model = choose_model(settings)
        stack.push_async_callback(model.close)
        peer = find_peer(settings, settings.analytics_app_id, settings.analytics_address)
        log.info("model %s; analytics through %s", model.name, peer.address)
        analytics = AnalyticsClient(peer)
        stack.push_async_callback(analytics.close)

        database = await open_database(settings.database, "chat", SCHEMA)
        stack.push_async_callback(database.close)
        # Only now: a stop must not wait while another process migrates the database.
        stop = stop_signal()
        outbox = Outbox(database, analytics.record)
        stack.push_async_callback(outbox.send_the_rest)
        await stack.enter_async_context(running(outbox.run))
        locks = TurnLocks()
        if database.is_shared:
            locks = leases = TurnLeases(database)
            await stack.enter_async_context(running(leases.renew_for_ever))
        turns = TurnStore(database, outbox, locks)

        agent = ChatAgent(
            measured(model, settings.model_timeout_s),
            settings.max_history_length,
            settings.max_reply_length,
            mcp_servers=await stack.enter_async_context(connected(settings.mcp_servers)),
            extend=partial(extended, function=settings.agent) if settings.agent else None,
        )
        conversation = Conversation(
            SettledCounts(analytics, outbox), turns, locks, agent,
            max_text_length=settings.max_text_length, timeout_s=settings.timeout_s,
        )  # fmt: skip
        stack.push_async_callback(conversation.close)

        admission = Admission(most_chats(settings.max_concurrent))
        await stack.enter_async_context(running(partial(watch_lag, admission.note_lag)))
        stack.enter_context(serving_metrics(settings, settings.metrics_port, "CHAT_METRICS_PORT"))
        stack.enter_context(observed(admission, outbox, conversation))

        identity = choose_identity(settings)
        rates = Rates(settings.rate_limit_user, settings.rate_limit_address)
        grpc_server = GrpcServer(
            app_api_token=settings.app_api_token, timeout_s=settings.timeout_s + READING_S
        )
        await stack.enter_async_context(running(partial(grpc_server.watch, database.check)))
        servicer = ChatServicer(conversation, turns, admission, identity, rates)
        grpc_server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)
        status = Status(
            analytics, outbox, admission,
            model=model.name, stopping=stop.is_set, problem=lambda: grpc_server.problem,
        )  # fmt: skip
        gateway = build_gateway(
            conversation, turns, analytics, status, admission,
            outbox=outbox, identity=identity, rates=rates,
            cors_origins=settings.cors_origins, root_path=settings.root_path,
            hosts=TrustedHosts(settings.host, *settings.trusted_hosts),
        )  # fmt: skip
        proxies = [str(network) for network in settings.trusted_proxies]
        http_server = HttpServer(
            gateway, settings.host, settings.http_port, proxies, end_requests=gateway.end_requests
        )
        await serve(settings, grpc_server, http_server, stop, conversation.end_streams)


async def serve(
    settings: ChatSettings,
    grpc_server: GrpcServer,
    http_server: HttpServer,
    stop: asyncio.Event,
    end_streams: Callable[[], None],
) -> None:
    """Serve until `stop` is set; `end_streams` ends streams that outlive the grace period. Raises
    `Failed` if the HTTP server ends by itself."""
    await grpc_server.start(settings.host, settings.grpc_port, "CHAT_GRPC_PORT")
    await http_server.start()
    http, grpc = (address(settings.host, server.port) for server in (http_server, grpc_server))
    log.info("serving HTTP on %s, gRPC on %s", http, grpc)
    # What exists by now stays for good. Unless it is frozen, each full garbage collection walks
    # through all of it, and blocks the event loop for a tenth of a second.
    gc.collect()
    gc.freeze()
    serving = http_server.serving
    serving.add_done_callback(lambda _: stop.set())
    await stop.wait()
    if has_failed := serving.done():
        log.error("the HTTP server has ended by itself", exc_info=serving.exception())
    log.info("stopping")
    await grpc_server.drain(settings.drain_s)
    grace_s = settings.shutdown_grace_s
    asyncio.get_running_loop().call_later(grace_s, end_streams)
    # Streams have a moment to say why they end, before the servers end what is left.
    await asyncio.gather(http_server.stop(grace_s + MOMENT_S), grpc_server.stop(grace_s))
    if has_failed:
        raise Failed("The HTTP server has ended by itself")
