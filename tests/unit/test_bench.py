"""The measurements' own arithmetic is right, and what they compare with is what it claims to
be."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from agents import Agent, RunConfig
from agents.testing import ScriptedModel, assistant_message

from analytics_service.store import AnalyticsStore
from bench.chart import Chart
from bench.clients import messages_of
from bench.measure import (
    Failed,
    Sample,
    Side,
    alternate,
    closed_loop,
    cpu_ms,
    median_ratio,
    open_loop,
    rate,
)
from bench.report import Bar, Result, comparison, number, row, table, write_summary
from bench.systems import old_design
from bench.systems.floor import floor_app, serve
from bench.systems.in_memory import InMemory
from lab.load import percentile
from lab.machine import free_port


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (90, 90), (99, 99), (100, 100), (0, 1), (99.5, 100)]
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(
    percent: float, expected: int
) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_few_values_have_percentiles_and_none_gives_nan() -> None:
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert math.isnan(percentile([], 50))


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    ours = [Sample(answered=n, seconds=1) for n in (10, 40, 90)]
    theirs = [Sample(answered=n, seconds=1) for n in (10, 10, 30)]
    assert median_ratio(ours, theirs, rate) == 3


def test_a_comparison_has_both_sides_and_how_far_the_rounds_agree() -> None:
    sides = {
        "new": [Sample(answered=n, seconds=1) for n in (10, 40, 90)],
        "old": [Sample(answered=n, seconds=1) for n in (10, 10, 30)],
    }
    expected = {"new": 40, "old": 10, "new / old": 3, "least": 1, "most": 4}
    assert comparison(sides, rate) == expected


def test_cpu_time_is_summed_over_the_named_processes() -> None:
    sample = Sample([0.1, 0.1], cpu_s={"chat": 0.004, "analytics": 0.002, "generator": 1})
    assert cpu_ms("chat", "analytics", "absent")(sample) == pytest.approx(3)


def test_a_client_sends_for_eight_users_in_turn_and_never_repeats_a_message() -> None:
    ask = messages_of(3, "/chat/stream")
    sent = [ask() for _ in range(16)]
    assert len(set(sent)) == 16
    assert all(request.startswith(b"POST /chat/stream HTTP/1.1") for request in sent)
    users = [json.loads(request.partition(b"\r\n\r\n")[2])["user_id"] for request in sent]
    assert users[:8] == users[8:] == [f"client-3-{number}" for number in range(8)]


async def test_sides_alternate_and_reverse_their_order() -> None:
    order = []

    def side(name: str) -> Side:
        async def load(seconds: float) -> Sample:
            order.append(name)
            return Sample(seconds=seconds)

        return Side(name, load)

    samples = await alternate([side("a"), side("b")], rounds=2, seconds=1)
    assert "".join(order) == "ab" + "abba"
    assert [len(found) for found in samples.values()] == [2, 2]


async def test_a_closed_loop_counts_answers_and_failures() -> None:
    answers = iter(range(1000))

    async def call() -> float:
        await asyncio.sleep(0.002)
        if next(answers) % 2:
            raise Failed("503")
        return 0.002

    sample = await closed_loop([call], 0.3)
    assert sample.answered > 1
    assert abs(sample.errors["503"] - len(sample.latencies_s)) <= 1


async def test_an_open_loop_counts_a_stall_for_all_requests_that_waited() -> None:
    stalled = False

    async def call() -> float:
        nonlocal stalled
        if not stalled:
            stalled = True
            await asyncio.sleep(0.2)
        return 0

    sample = await open_loop([call], rate=200, seconds=0.3)
    assert len([s for s in sample.latencies_s if s > 0.05]) > 10


def test_a_bar_includes_its_limit_and_is_never_met_by_nan() -> None:
    assert Bar("x", 90, 90, at_least=True).met
    assert not Bar("x", 89, 90, at_least=True).met
    assert Bar("x", 5, 5).met
    assert not Bar("x", float("nan"), 5).met


def test_a_table_has_the_columns_of_all_its_rows() -> None:
    sample = Sample([0.001, 0.003], answered=2, seconds=1, cpu_s={"chat": 0.004})
    lines = table({"a": row([sample]), "b": {"RSS": 1234.0}})
    assert "CPU µs chat | RSS" in lines[0]
    assert "| 2 | 1 | 3 | 3 | 3 | 2 | none | 2\u202f000 |  |" in lines[2]
    assert number(0.01234) == "0.0123"


def test_the_summary_tells_when_each_experiment_was_run(tmp_path: Path) -> None:
    for name, date in (("floor", "2026-11-29"), ("replicas", "2026-12-01")):
        Result(name, name, machine={"cores": "2", "date": date}).write(tmp_path)
    write_summary(tmp_path, {"cores": "2", "date": "2026-12-01"}, ["floor", "replicas"])
    first, floor, replicas = (tmp_path / "README.md").read_text().split("## ")
    assert "- cores: 2" in first
    assert "2026" not in first
    assert "*2026-11-29, load" in floor
    assert "*2026-12-01, load" in replicas


def test_a_chart_shows_each_line_and_names_it() -> None:
    lines = {"p50": [(1.0, 2.0), (256.0, 30.0)], "<p99>": [(1.0, 5.0), (256.0, 300.0)]}
    svg = Chart("t", "clients", "ms", lines, log_x=True, log_y=True).svg()
    assert svg.count("<polyline") == 2
    assert "&lt;p99&gt;" in svg


class Analytics:
    """The old analytics service in this process, with a count of the clients made to call it."""

    def __init__(self) -> None:
        self.clients_made = 0
        self._transport = httpx.ASGITransport(old_design.analytics_app(old_design.COUNTS))

    def client(self) -> httpx.AsyncClient:
        self.clients_made += 1
        return httpx.AsyncClient(transport=self._transport)


class OldChat:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.analytics = Analytics()
        monkeypatch.setattr("bench.systems.old_design.make_client", self.analytics.client)
        self.model = ScriptedModel([[assistant_message("Hi")]] * 9)
        self.agent: Agent[None] = Agent(name="ChatAgent", model=self.model)
        config = RunConfig(model=self.model, tracing_disabled=True)
        app = old_design.chat_app(self.agent, config, "http://analytics")
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")

    async def post(self, user_id: str, text: str = "Hello") -> tuple[int, Any]:
        answer = await self._client.post("/chat/", json={"user_id": user_id, "text": text})
        return answer.status_code, answer.json()


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> OldChat:
    return OldChat(monkeypatch)


async def test_the_old_design_changes_its_one_agent_for_each_request(old: OldChat) -> None:
    for user_id, count in (("alice", 5), ("bob", 3), ("nobody", 0)):
        status, body = await old.post(user_id)
        assert (status, body["reply"]) == (200, "Hi")
        assert f"has sent {count} messages" in str(old.agent.instructions)


async def test_the_old_design_makes_a_client_for_each_request(old: OldChat) -> None:
    for _ in range(3):
        await old.post("alice")
    assert old.analytics.clients_made == 3


async def test_the_old_design_refuses_blank_texts(old: OldChat) -> None:
    assert await old.post("alice", " ") == (400, {"detail": "Message text cannot be empty"})


async def test_the_floor_answers_as_chat_does() -> None:
    model = ScriptedModel([[assistant_message("Hi")]])
    port = free_port()
    serving = asyncio.create_task(serve(floor_app(Agent(name="Floor", model=model)), port))
    sent = {"user_id": "alice", "text": "Hello", "message_id": str(uuid4())}
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=3)) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/chat/", json=sent)
    assert answer.json() == {"user_id": "alice", "reply": "Hi"}
    serving.cancel()
    await asyncio.wait([serving])


async def test_an_analytics_service_without_a_store_knows_everybody() -> None:
    assert (await AnalyticsStore(InMemory()).get("anybody")).message_count == 5
