"""What spans say and don't say, and what tracing costs."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import agents
import pytest
import yaml
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, get_current_span

from chat_service.agent.spans import AgentSpans
from chat_service.outbox.outbox_rows import OutboxEntry, OutboxRows
from chat_service.turns.stores import open_stores
from chat_service.web.http_spans import TraceHttp
from daca_shared.calls.spans import ServerSpans
from daca_shared.observe.otel import OtelTracing
from daca_shared.observe.tracing import NO_TRACING, choose_tracing
from daca_shared.observe.zipkin import ZipkinExporter
from daca_shared.settings import ServiceSettings
from lab.postgres import Place
from scripts.service import ROOT
from scripts.stack import Stack
from scripts.tracing import trace_sidecars

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
FAR, NEAR = "b7ad6b7169203331", "00f067aa0ba902b7"


class Spans:
    """A tracer, and the spans that it made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def spans() -> Spans:
    return Spans()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_without_a_receiver_there_is_no_tracing(environment: pytest.MonkeyPatch) -> None:
    tracing = choose_tracing(ServiceSettings.from_environment(), "test")
    assert tracing is NO_TRACING
    assert (tracing.tracer, tracing.origin()) == (None, None)
    assert not [*tracing.server_wraps, *tracing.client_interceptors]


async def test_a_dead_receiver_costs_one_line_and_no_wait(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    caplog.set_level(logging.INFO)
    tracing = choose_tracing(ServiceSettings.from_environment(), "test")
    began = time.monotonic()
    for _ in range(3000):  # more than the queue holds
        with tracing.batch("work", []):
            pass
    assert time.monotonic() - began < 2
    await tracing.close()
    assert time.monotonic() - began < 5
    assert caplog.messages == ["spans can't be delivered now, and are dropped"]


async def test_a_batch_names_twenty_of_its_origins(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    tracing = OtelTracing(ServiceSettings.from_environment(), "test")
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


async def test_a_write_in_a_group_is_in_its_own_callers_trace(
    environment: pytest.MonkeyPatch, spans: Spans, place: Place
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    tracing = OtelTracing(ServiceSettings.from_environment(), "test")
    tracing.tracer = spans.tracer

    async def accept(rows: OutboxRows) -> str | None:
        with spans.tracer.start_as_current_span("chat"):
            now, origin = datetime.now(UTC), tracing.origin()
            await rows.insert(OutboxEntry(0, uuid4(), "alice", now, owner=1, origin=origin))
        return origin

    async with open_stores(place, tracing) as stores:
        origins = await asyncio.gather(*(accept(stores.outbox_rows) for _ in range(3)))
        entries = await stores.outbox_rows.own(1, after=0)
    assert {entry.origin for entry in entries} == {*origins}
    chats = {span.context.span_id for span in spans.ended if span.name == "chat" and span.context}
    writes = [span for span in spans.ended if span.name != "chat"]
    assert {span.parent.span_id for span in writes if span.parent} == chats
    name = "SQLite write" if isinstance(place, Path) else "PostgreSQL write"
    assert [span.name for span in writes] == [name] * 3
    await tracing.close()


async def test_the_last_of_two_traceparents_is_the_parent(spans: Spans) -> None:
    """Daprd 1.18 adds its own behind the caller's."""
    metadata = tuple(("traceparent", f"00-{TRACE_ID}-{span_id}-01") for span_id in (FAR, NEAR))

    async def behaviour(request: Any, context: Any) -> str:
        return "done"

    context: Any = SimpleNamespace(invocation_metadata=lambda: metadata, code=lambda: None)
    server_spans = ServerSpans(spans.tracer)
    assert await server_spans._unary(behaviour, "/a.B/C")(None, context) == "done"
    (span,) = spans.ended
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x} {span.parent.span_id:016x}" == f"{TRACE_ID} {NEAR}"
    assert (span.name, span.kind) == ("a.B/C", SpanKind.SERVER)


async def run_agent(spans: Spans, *, content: bool, fails: bool = False) -> dict[str, ReadableSpan]:
    @agents.function_tool
    def look_up() -> str:
        return "secret-result"

    last = ModelStep.raise_error(RuntimeError("secret-error")) if fails else None
    steps = [
        ModelStep(output=[function_call("look_up", {}, call_id="c1")]),
        last or ModelStep(output=[assistant_message("secret-reply")]),
    ]
    agents.set_trace_processors([AgentSpans(spans.tracer, content=content)])
    agent = agents.Agent(name="A", model=ScriptedModel(steps, emit_traces=True), tools=[look_up])
    config = agents.RunConfig(trace_include_sensitive_data=content)
    try:
        with spans.tracer.start_as_current_span("turn"):
            await agents.Runner.run(agent, "secret-question", run_config=config)
    except RuntimeError:
        assert fails
    finally:
        agents.set_trace_processors([])
    return {span.name: span for span in spans.ended}


async def test_agents_models_and_tools_are_inside_of_the_turn(spans: Spans) -> None:
    found = await run_agent(spans, content=False)
    ids = {name: span.context.span_id for name, span in found.items() if span.context}
    parents = {name: span.parent.span_id for name, span in found.items() if span.parent}
    agent = ids["invoke_agent A"]
    assert parents == {
        "invoke_agent A": ids["turn"], "execute_tool look_up": agent, "chat": agent,
    }  # fmt: skip
    assert "secret" not in "".join(span.to_json() for span in spans.ended)


async def test_content_is_in_spans_if_it_may_be(spans: Spans) -> None:
    found = await run_agent(spans, content=True)
    tool = dict(found["execute_tool look_up"].attributes or {})
    assert "secret-result" in str(tool["gen_ai.tool.call.result"])


async def test_a_failing_model_is_seen_without_its_text(spans: Spans) -> None:
    found = await run_agent(spans, content=False, fails=True)
    assert not found["chat"].status.is_ok
    inside = [span for span in spans.ended if span.name != "turn"]
    assert "secret" not in "".join(span.to_json() for span in inside)


@pytest.mark.parametrize(
    ("messages", "error_type"),
    [
        ([("http.response.start", False), ("http.response.body", False)], None),
        ([("http.response.start", False), ("http.response.body", True)], "disconnected"),
    ],
)
async def test_an_answer_without_an_end_is_a_failure(
    spans: Spans, messages: list[tuple[str, bool]], error_type: str | None
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for type_, more in messages:
            await send({"type": type_, "status": 200, "headers": [], "more_body": more})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/users/zoe", "method": "GET", "scheme": "http", "headers": []}
    await TraceHttp(app, spans.tracer)(scope, None, send)  # type: ignore[arg-type]
    (span,) = spans.ended
    assert span.context is not None
    assert sent[0]["headers"] == [(b"x-trace-id", f"{span.context.trace_id:032x}".encode())]
    assert dict(span.attributes or {}).get("error.type") == error_type
    assert "zoe" not in span.to_json()


async def test_zipkin_gets_what_it_can_show(spans: Spans) -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        received.set_result(await reader.readexactly(size))
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    with spans.tracer.start_as_current_span("outer", kind=SpanKind.CLIENT):
        pass
    server = await asyncio.start_server(take, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v2/spans"
    await asyncio.to_thread(ZipkinExporter(url, timeout_s=5).export, spans.ended)
    server.close()
    (span,) = json.loads(await received)
    assert (span["name"], span["kind"]) == ("outer", "CLIENT")
    assert len(span["traceId"]) == 32
    assert "parentId" not in span


@pytest.mark.parametrize(
    ("variable", "url", "expected"),
    [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://collector.example:4318",
            {"otel": {"endpointAddress": "collector.example:4318", "isSecure": True,
                      "protocol": "http"}},
        ),
        (
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
            "http://127.0.0.1:9411/api/v2/spans",
            {"zipkin": {"endpointAddress": "http://127.0.0.1:9411/api/v2/spans"}},
        ),
    ],
)  # fmt: skip
def test_sidecars_send_where_the_services_do_and_keep_their_policies(
    environment: pytest.MonkeyPatch, tmp_path: Path, variable: str, url: str, expected: Any
) -> None:
    environment.setenv(variable, url)
    environment.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    stack = Stack(ROOT / "dapr.yaml", daprd=Path("daprd"), log_dir=tmp_path)
    command = stack.services["analytics-service-sidecar"].command
    position = command.index("--config") + 1
    command[position] = str(ROOT / "deploy/secure/analytics-service.yaml")
    before = yaml.safe_load(Path(command[position]).read_text())["spec"]
    trace_sidecars(stack, ServiceSettings.from_environment(), tmp_path / "tracing")
    spec = yaml.safe_load(Path(command[position]).read_text())["spec"]
    assert spec == {**before, "tracing": {"samplingRate": "0.250000", **expected}}
