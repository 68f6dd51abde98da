"""What spans contain and what they must not, and the cost of tracing."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, get_current_span

from chat_service.app import SCHEMA
from chat_service.chat.messages import ChatMessage
from chat_service.outbox.outbox import Outbox
from chat_service.turns.leases import TurnLocks
from chat_service.turns.store import TurnStore
from daca_shared.observe.tracing import PROPAGATOR, tracing
from daca_shared.settings import ServiceSettings, set_no_proxy
from daca_shared.storage.database import open_database
from lab.machine import free_port
from lab.postgres import Place
from tests.fakes import FakeRecorder, eventually, turn_of
from tests.spans import Spans

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """What this process makes of spans instead of sending them."""
    spans = Spans()
    monkeypatch.setattr(tracing, "tracer", spans.tracer)
    return spans


def start() -> None:
    tracing.start(ServiceSettings.from_environment(), "test")


def test_without_a_receiver_there_is_no_tracing(environment: pytest.MonkeyPatch) -> None:
    start()
    assert (tracing.tracer, tracing.origin()) == (None, None)
    with tracing.span("work"), tracing.batch("outbox", []):
        assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("sampler", ["always_on", "parentbased_always_on"])
async def test_a_sampler_heeds_the_caller_only_if_its_name_says_so(
    environment: pytest.MonkeyPatch, sampler: str
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    environment.setenv("OTEL_TRACES_SAMPLER", sampler)
    start()
    assert tracing.tracer
    unwanted = PROPAGATOR.extract({"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"})
    span = tracing.tracer.start_span("work", unwanted)
    await tracing.close()
    assert span.is_recording() == (sampler == "always_on")


async def test_a_dead_receiver_causes_one_log_line_and_no_delay(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "200")
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
    caplog.set_level(logging.INFO)
    start()
    began = time.monotonic()
    for _ in range(300):  # more than the queue holds
        with tracing.batch("work", []):
            pass
    assert time.monotonic() - began < 5
    await tracing.close()
    assert time.monotonic() - began < 10
    (line,) = caplog.messages
    assert line.startswith("spans can't be delivered now, and are dropped: ")


@pytest.mark.parametrize("name", ["OTLP", "ZIPKIN"])
async def test_the_log_tells_why_spans_can_not_be_delivered(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    environment.setenv(f"OTEL_EXPORTER_{name}_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    start()
    with tracing.batch("work", []):
        pass
    await eventually(lambda: caplog.messages)  # before a stop, which would be the reason
    await tracing.close()
    assert "Connection refused" in caplog.messages[0]


async def test_a_batch_links_to_twenty_traces_at_most(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    start()
    origins = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 31)]
    with tracing.batch("outbox", [None, *origins, *origins]):
        span: Any = get_current_span()
        with tracing.span("inner"):
            assert tracing.origin() is not None
    assert [link.context.trace_id for link in span.links] == list(range(1, 21))
    assert span.parent is None
    with tracing.span("of nothing"):
        assert not get_current_span().get_span_context().is_valid
    await tracing.close()


async def test_a_write_in_a_group_is_in_its_own_callers_trace(spans: Spans, place: Place) -> None:
    database = await open_database(place, "chat", SCHEMA)
    recorder = FakeRecorder()
    outbox, locks = Outbox(database, recorder.record), TurnLocks()
    turns = TurnStore(database, outbox, locks)

    async def keep(user_id: str) -> None:
        message = ChatMessage(user_id=user_id, text="hi")
        with spans.tracer.start_as_current_span("chat"):
            await turns.keep(turn_of(message, "hello"))

    await asyncio.gather(*(keep(f"user-{n}") for n in range(3)))
    kept = spans.ended
    await outbox.send_batch()
    await database.close()
    chats = {span.context.span_id for span in kept if span.name == "chat" and span.context}
    writes = [span for span in kept if span.name != "chat"]
    assert {span.parent.span_id for span in writes if span.parent} == chats
    name = "SQLite write" if isinstance(place, Path) else "PostgreSQL write"
    assert [span.name for span in writes] == [name] * 3
    links = [link.context for span in spans.ended if span.name == "outbox" for link in span.links]
    assert {link.span_id for link in links} == chats


def test_a_batch_for_many_chats_is_a_trace_with_links_to_theirs(spans: Spans) -> None:
    with spans.tracer.start_as_current_span("chat"):
        origin = tracing.origin()
    with pytest.raises(RuntimeError), tracing.batch("outbox", [origin]):
        raise RuntimeError("secret")
    chat, outbox = spans.ended
    assert outbox.parent is None
    (link,) = outbox.links
    assert chat.context
    assert (link.context.trace_id, link.context.span_id) == (
        chat.context.trace_id,
        chat.context.span_id,
    )
    assert dict(outbox.attributes or {}) == {"error.type": "RuntimeError"}
    assert "secret" not in outbox.to_json()


async def sent(environment: pytest.MonkeyPatch, **endpoints: str) -> tuple[bytes, bytes]:
    """The head and the body of the request that sends a span, with this machine's receiver of spans
    at these paths."""
    received: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        received.set_result((head, await reader.readexactly(size)))
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    for name, path in endpoints.items():
        port = server.sockets[0].getsockname()[1]
        environment.setenv(f"OTEL_EXPORTER_{name}_ENDPOINT", f"http://127.0.0.1:{port}{path}")
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        environment.setenv(name, "")
    set_no_proxy()
    start()
    assert tracing.tracer
    with tracing.tracer.start_as_current_span("outer", kind=SpanKind.CLIENT):
        pass
    await tracing.close()
    server.close()
    return await received


async def test_zipkin_on_this_machine_gets_spans_in_its_format_without_a_proxy(
    environment: pytest.MonkeyPatch,
) -> None:
    _, body = await sent(environment, ZIPKIN="/api/v2/spans")
    (span,) = json.loads(body)
    assert (span["name"], span["kind"]) == ("outer", "CLIENT")
    assert len(span["traceId"]) == 32
    assert "parentId" not in span


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
async def test_with_both_endpoints_spans_are_sent_by_otlp(
    environment: pytest.MonkeyPatch, path: str
) -> None:
    head, body = await sent(environment, ZIPKIN="/api/v2/spans", OTLP=path)
    assert head.startswith(b"POST /v1/traces ")
    assert b"outer" in body
