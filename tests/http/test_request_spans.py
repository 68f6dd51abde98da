"""What the span of an HTTP request contains, and what it must not."""

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from chat_service.access.admission import Admission
from chat_service.web.edge import Edge
from daca_shared.observe.tracing import tracing
from tests.fakes import ANY_HOST, FOREVER_S, FakeChat, eventually
from tests.http.gateways import body, gateway, gateway_app, served
from tests.spans import Spans

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    spans = Spans()
    monkeypatch.setattr(tracing, "tracer", spans.tracer)
    return spans


def of_requests(spans: Spans) -> list[ReadableSpan]:
    """All spans but those inside of a chat."""
    return [span for span in spans.ended if span.name != "turn"]


def the_one(spans: Spans) -> tuple[ReadableSpan, dict[str, Any]]:
    (span,) = of_requests(spans)
    assert span.kind is SpanKind.SERVER
    return span, dict(span.attributes or {})


async def test_a_span_has_route_and_status_and_the_answer_has_its_trace_id(
    chat: FakeChat, spans: Spans
) -> None:
    async with gateway(chat) as http:
        answer = await http.get("/users/alice/analytics?secret=1")
    span, attributes = the_one(spans)
    assert attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/users/{user_id}/analytics",
        "http.response.status_code": 200,
    }
    assert span.name == "GET /users/{user_id}/analytics"
    assert span.status.is_ok
    assert span.context
    assert answer.headers["x-trace-id"] == f"{span.context.trace_id:032x}"
    assert not [word for word in ("alice", "secret") if word in span.to_json()]


async def test_an_unknown_method_is_not_in_the_span(chat: FakeChat, spans: Spans) -> None:
    async with gateway(chat) as http:
        await http.request("alice-is-ill", "/users/alice/analytics")
    _, attributes = the_one(spans)
    assert attributes["http.request.method"] == "_OTHER"
    assert "ill" not in spans.ended[0].to_json()


async def test_a_request_goes_on_with_its_callers_trace(chat: FakeChat, spans: Spans) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    async with gateway(chat) as http:
        answer = await http.get("/", headers=headers)
    span, _ = the_one(spans)
    assert answer.headers["x-trace-id"] == TRACE_ID
    assert span.parent
    assert f"{span.parent.trace_id:032x} {span.parent.span_id:016x}" == f"{TRACE_ID} {SPAN_ID}"


async def test_an_unknown_path_is_not_in_the_span(chat: FakeChat, spans: Spans) -> None:
    async with gateway(chat) as http:
        await http.get("/alices/secret")
    span, attributes = the_one(spans)
    assert (span.name, attributes["http.response.status_code"]) == ("GET", 404)
    assert span.status.is_ok, "a caller's mistake is no failure of ours"
    assert "alice" not in span.to_json()


async def test_a_span_of_the_pages_files_says_so(chat: FakeChat, spans: Spans) -> None:
    async with gateway(chat) as http:
        await http.get("/ui/app.js")
    span, attributes = the_one(spans)
    assert (span.name, attributes["http.route"]) == ("GET /ui", "/ui")


async def test_an_internal_error_makes_the_span_failed(chat: FakeChat, spans: Spans) -> None:
    chat.agent.failure = RuntimeError("secret")
    async with gateway(chat) as http:
        await http.post("/chat/", json=body())
    span, attributes = the_one(spans)
    assert (attributes["error.type"], span.status.is_ok) == ("500", False)
    assert "secret" not in span.to_json()


async def test_probes_have_no_spans(chat: FakeChat, spans: Spans) -> None:
    async with gateway(chat) as http:
        for path in ("/healthz", "/readyz"):
            assert "x-trace-id" not in (await http.get(path)).headers
    assert not spans.ended


async def test_a_disconnect_makes_a_span_of_a_broken_answer(chat: FakeChat, spans: Spans) -> None:
    chat.agent.delay_s = FOREVER_S
    async with served(gateway_app(chat)) as http:
        async with http.stream("POST", "/chat/stream", json=body()) as response:
            await anext(response.aiter_lines())
        await eventually(lambda: of_requests(spans))
    _, attributes = the_one(spans)
    assert attributes["error.type"] == "disconnected"


@pytest.mark.parametrize(
    ("messages", "error_type"),
    [
        ([("http.response.start", False), ("http.response.body", False)], None),
        ([("http.response.start", False), ("http.response.body", True)], "disconnected"),
    ],
)
async def test_an_incomplete_answer_is_a_failure(
    spans: Spans, messages: list[tuple[str, bool]], error_type: str | None
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for type_, more in messages:
            await send({"type": type_, "status": 200, "headers": [], "more_body": more})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope: Any = {"type": "http", "path": "/users/zoe", "method": "GET", "scheme": "http"}
    scope |= {"http_version": "1.1", "headers": [(b"host", b"test")]}
    edge = Edge(app, lambda app: app, ANY_HOST, Admission(), answer_timeout_s=5)
    await edge(scope, receive, send)
    span, attributes = the_one(spans)
    assert span.context
    trace_id = f"{span.context.trace_id:032x}".encode()
    assert (b"x-trace-id", trace_id) in sent[0]["headers"]
    assert attributes.get("error.type") == error_type
    assert "zoe" not in span.to_json()


_WITH_A_GLOBAL_PROVIDER = """
import asyncio
from opentelemetry import trace
from tests.fakes import FakeChat
from tests.http.gateways import gateway
from tests.spans import Spans

async def main() -> None:
    spans = Spans()
    trace.set_tracer_provider(spans.provider)
    async with gateway(FakeChat()) as http:
        answer = await http.get("/users/alice/analytics?secret=1")
    print(answer.status_code, len(spans.ended))

asyncio.run(main())
"""


def test_fastapi_makes_no_spans_with_paths_for_an_extensions_global_provider() -> None:
    # In a process of its own, as a global provider stays for good.
    command = [sys.executable, "-c", _WITH_A_GLOBAL_PROVIDER]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "200 0"
