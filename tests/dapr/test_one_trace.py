"""One chat makes one trace, through both services and both real sidecars."""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from lab.machine import free_port
from lab.stack import RunningStack, eventually, render_run_file, running_stack
from scripts.lib.probes import is_free
from tests.commands import command, ports_of, read_until
from tests.dapr.otlp import ReceivedSpan, Receiver, receiving

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET = "daca.analytics.v1.AnalyticsService/GetAnalytics"
RECORD = "daca.analytics.v1.AnalyticsService/RecordMessages"
STREAM = "daca.chat.v1.ChatService/ChatStream"


class TracedStack:
    def __init__(self, running: RunningStack, receiver: Receiver) -> None:
        self.running = running
        self.receiver = receiver
        names = {"chat_service": "chat", "analytics_service": "analytics"}
        names |= {running.chat: "chat-sidecar", running.analytics: "analytics-sidecar"}
        self._names = names

    async def post(self, path: str, user_id: str, text: str, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.running.url) as client:
            return await client.post(path, json={"user_id": user_id, "text": text}, headers=headers)

    def line(self, span: ReceivedSpan) -> str:
        return f"{self._names[span.service]} {span.kind} {span.name}"

    def tree(self, spans: list[ReceivedSpan], parent_id: str = "") -> dict[str, Any]:
        """The spans below `parent_id` by their `line`, which is made unique among siblings."""
        found: dict[str, Any] = {}
        for span in spans:
            if span.parent_id == parent_id:
                line = self.line(span)
                found[f"{line} again" if line in found else line] = self.tree(spans, span.span_id)
        return found

    async def ended(self, name: str, kind: str, trace_id: str) -> ReceivedSpan:
        return await self.receiver.first(
            lambda s: (s.name, s.kind, s.trace_id) == (name, kind, trace_id)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(
    tmp_path_factory: pytest.TempPathFactory, daprd: Path
) -> AsyncIterator[TracedStack]:
    folder = tmp_path_factory.mktemp("traced")
    with receiving() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        environment["OTEL_EXPORTER_OTLP_HEADERS"] = "x-key=a%20key"
        async with running_stack(folder, daprd, environment=environment) as running:
            yield TracedStack(running, receiver)


def traceparent(*, sampled: bool = True) -> tuple[str, str, str]:
    trace_id, span_id = uuid4().hex, uuid4().hex[:16]
    return trace_id, span_id, f"00-{trace_id}-{span_id}-0{int(sampled)}"


async def test_a_chat_is_one_trace_inside_of_its_callers(traced: TracedStack) -> None:
    trace_id, span_id, header = traceparent()
    answer = await traced.post("/chat/", "alice", "What time is it?", traceparent=header)
    assert answer.json()["message_count"] == 5
    assert answer.headers["x-trace-id"] == trace_id
    spans = await traced.receiver.trace(trace_id, 14)
    assert traced.tree(spans, span_id) == {
        "chat SERVER POST /chat/": {
            "chat INTERNAL turn": {
                # The history, and whether some of its messages are still to be counted.
                "chat INTERNAL SQLite read": {},
                "chat INTERNAL SQLite read again": {},
                f"chat CLIENT {GET}": {
                    f"chat-sidecar CLIENT /{GET}": {
                        # Siblings, because daprd doesn't pass its own span to the app.
                        f"analytics-sidecar SERVER /{GET}": {},
                        f"analytics SERVER {GET}": {"analytics INTERNAL SQLite read": {}},
                    }
                },
                "chat INTERNAL invoke_agent DACA Chat": {
                    "chat CLIENT chat": {},
                    "chat INTERNAL execute_tool get_current_time": {},
                    "chat CLIENT chat again": {},
                },
                "chat INTERNAL SQLite write": {},
            }
        }
    }
    assert not any(span.failed for span in spans)


async def test_counting_is_a_trace_of_its_own_that_names_its_chats(traced: TracedStack) -> None:
    answer = await traced.post("/chat/", "linked", "Hello")
    chat = await traced.ended("turn", "INTERNAL", answer.headers["x-trace-id"])
    batch = await traced.receiver.first(lambda span: chat.span_id in span.links)
    spans = await traced.receiver.trace(batch.trace_id, 6)
    assert traced.tree(spans) == {
        "chat INTERNAL outbox": {
            f"chat CLIENT {RECORD}": {
                f"chat-sidecar CLIENT /{RECORD}": {
                    f"analytics-sidecar SERVER /{RECORD}": {},
                    f"analytics SERVER {RECORD}": {"analytics INTERNAL SQLite write": {}},
                }
            }
        }
    }
    assert batch.trace_id != chat.trace_id


async def test_a_stream_is_one_trace_too(traced: TracedStack) -> None:
    answer = await traced.post("/chat/stream", "streamer", "Hello")
    spans = await traced.receiver.trace(answer.headers["x-trace-id"], 12)
    (root,) = traced.tree(spans)
    assert root == "chat SERVER POST /chat/stream"
    assert f"chat CLIENT {GET}" in traced.tree(spans)[root]["chat INTERNAL turn"]


async def stream_until(
    traced: TracedStack, *, timeout_s: float, cancel: bool
) -> tuple[str, StatusCode]:
    """Chat over gRPC with a deadline, or cancel after the first event."""
    trace_id, _, header = traceparent()
    port = traced.running.stack.services[traced.running.chat].ports["gRPC"]
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = chat_pb2.ChatStreamRequest(user_id="hasty", text="Hello")
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        call = stub.ChatStream(request, timeout=timeout_s, metadata=(("traceparent", header),))
        try:
            async for _ in call:
                if cancel:
                    call.cancel()
        except (grpc.RpcError, asyncio.CancelledError):
            pass
        return trace_id, await call.code()


@pytest.mark.parametrize(
    ("timeout_s", "cancel", "code", "failed"),
    [
        (0.15, False, StatusCode.DEADLINE_EXCEEDED, True),
        (10, True, StatusCode.CANCELLED, False),
        (10, False, StatusCode.OK, False),
    ],
)
async def test_a_call_that_ends_early_has_that_status(
    traced: TracedStack, timeout_s: float, cancel: bool, code: StatusCode, failed: bool
) -> None:
    trace_id, seen = await stream_until(traced, timeout_s=timeout_s, cancel=cancel)
    assert seen is code
    span = await traced.ended(STREAM, "SERVER", trace_id)
    assert span.attributes["rpc.response.status_code"] == code.name
    assert span.failed is failed


async def test_an_unknown_user_is_an_error_only_in_the_callers_span(traced: TracedStack) -> None:
    async with httpx2.AsyncClient(base_url=traced.running.url) as client:
        answer = await client.get("/users/nobody-here/analytics")
    trace_id = answer.headers["x-trace-id"]
    client_span = await traced.ended(GET, "CLIENT", trace_id)
    server_span = await traced.ended(GET, "SERVER", trace_id)
    http_span = await traced.ended("GET /users/{user_id}/analytics", "SERVER", trace_id)
    codes = [s.attributes["rpc.response.status_code"] for s in (client_span, server_span)]
    assert codes == ["NOT_FOUND", "NOT_FOUND"]
    assert (client_span.failed, server_span.failed, http_span.failed) == (True, False, False)


async def test_a_hanging_peer_is_a_deadline_exceeded(traced: TracedStack) -> None:
    analytics = traced.running.stack.services[traced.running.analytics]
    analytics.signal(signal.SIGSTOP)
    try:
        async with httpx2.AsyncClient(base_url=traced.running.url) as client:
            answer = await client.get("/users/alice/analytics")
    finally:
        analytics.signal(signal.SIGCONT)
    assert answer.status_code == 504
    trace_id = answer.headers["x-trace-id"]
    span = await traced.ended(GET, "CLIENT", trace_id)
    # CANCELLED if the deadline has passed at a sidecar first.
    assert span.attributes["rpc.response.status_code"] in ("DEADLINE_EXCEEDED", "CANCELLED")
    assert span.failed
    http_span = await traced.ended("GET /users/{user_id}/analytics", "SERVER", trace_id)
    assert (http_span.attributes["http.response.status_code"], http_span.failed) == (504, True)


async def test_a_caller_that_does_not_sample_leaves_no_span(traced: TracedStack) -> None:
    trace_id, _, header = traceparent(sampled=False)
    answer = await traced.post("/chat/", "unseen", "Hello", traceparent=header)
    assert answer.headers["x-trace-id"] == trace_id
    later = await traced.post("/chat/", "seen", "Hello")
    await traced.receiver.trace(later.headers["x-trace-id"], 12)
    assert not [span for span in traced.receiver.spans if span.trace_id == trace_id]


async def test_probes_leave_no_span(traced: TracedStack) -> None:
    assert not [span for span in traced.receiver.spans if "ealth" in span.name]
    assert not [span for span in traced.receiver.spans if "readyz" in span.name]


async def test_no_text_and_no_user_id_is_in_a_span(traced: TracedStack) -> None:
    answer = await traced.post("/chat/", "user-7351", "My word is xylophone: what time is it?")
    await traced.receiver.trace(answer.headers["x-trace-id"], 14)
    sent = bytes(traced.receiver.raw)
    assert b"GetAnalytics" in sent
    assert not [word for word in (b"user-7351", b"xylophone", b"nobody-here") if word in sent]


async def test_all_four_processes_send_the_configured_headers(traced: TracedStack) -> None:
    senders = {headers["user-agent"] for headers in traced.receiver.headers}
    assert len(senders) == 2  # those of Python and Go
    assert {headers["x-key"] for headers in traced.receiver.headers} == {"a key"}


async def counted(spans: Callable[[], Awaitable[list[Any]]]) -> int:
    return len(await spans())


@pytest.mark.skipif(shutil.which("java") is None, reason="NO JAVA: ZIPKIN IS NOT TRIED")
async def test_run_sh_shows_a_chat_in_a_real_zipkin(tmp_path: Path, daprd: Path) -> None:
    run_file, port = render_run_file(tmp_path), free_port()
    arguments = ("scripts/run.sh", "--zipkin", "--run-file", run_file)
    async with command(*arguments, folder=tmp_path, ZIPKIN_PORT=str(port)) as process:
        assert f"http://127.0.0.1:{port}/zipkin/traces/" in await read_until(process, "Ctrl-C")
        trace_id, _, header = traceparent()
        async with httpx2.AsyncClient() as client:
            chat = f"http://127.0.0.1:{ports_of(run_file)['http']}/chat/"
            body = {"user_id": "zoe", "text": "What time is it?"}
            await client.post(chat, json=body, headers={"traceparent": header})

            async def spans() -> list[Any]:
                answer = await client.get(f"http://127.0.0.1:{port}/api/v2/trace/{trace_id}")
                return answer.json() if answer.status_code == 200 else []

            await eventually(lambda: counted(spans), 14)
            found = await spans()
            page = {"origin": "http://evil.test"}
            answer = await client.get(f"http://127.0.0.1:{port}/api/v2/services", headers=page)
            assert "access-control-allow-origin" not in answer.headers
            dump = await client.head(f"http://127.0.0.1:{port}/actuator/heapdump")
            assert dump.status_code == 404
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert is_free("127.0.0.1", port)
    get = f"/{GET}".lower()
    kinds = Counter(span["kind"] for span in found if get.endswith(span["name"].lower()))
    assert kinds == {"CLIENT": 2, "SERVER": 2}  # at both ends of both hops
    services = {span["localEndpoint"]["serviceName"] for span in found}
    assert services >= {"chat_service", "analytics_service"}
    assert len(services) == 4
