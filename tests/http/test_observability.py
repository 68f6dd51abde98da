"""What the dashboard and the alerts ask for is there once the real services have run."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client import REGISTRY

from chat_service.__main__ import analytics_peer
from chat_service.access.overload import Load
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import choose_model
from chat_service.chat.conversation import Conversation
from chat_service.health.metrics import count_fallback, measured, observed
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledAnalytics
from chat_service.settings import ChatSettings
from chat_service.turns.history import History
from chat_service.turns.stores import open_stores, sending
from chat_service.web.gateway import build_gateway
from chat_service.web.reporting import RequestReporter
from daca_shared.calls.server import GrpcServer
from scripts.service import ROOT
from tests.grpc.conftest import analytics_server, store
from tests.model_server import model_server

__all__ = ["analytics_server", "store"]
FOLDER = ROOT / "deploy/observability"
WORDS = {"sum", "rate", "by", "histogram_quantile"}
# Prometheus' own.
GIVEN = {"up"}


def expressions() -> Iterator[str]:
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a PromQL expression, with the labels that it needs."""
    grouped = {
        label for labels in re.findall(r"by \(([^)]*)\)", expression)
        for label in re.split(r",\s*", labels)
    }  # fmt: skip
    bare = re.sub(r"by \([^)]*\)|\[[^\]]*\]", "", expression)
    for name, matchers in re.findall(r"([a-z_:]+)\b(?!\()(?:\{([^}]*)\})?", bare):
        if name not in WORDS:
            labels = set(re.findall(r"(\w+)(?==|!)", re.sub(r'"[^"]*"', '""', matchers)))
            # These a scrape adds.
            yield name, labels | grouped - {"job"}


def test_the_parser_sees_metrics_and_their_labels() -> None:
    expression = 'sum by (le, job) (rate(a_b{c="x=y",d!~"5.."}[5m])) / e > 0.1'
    assert list(selectors(expression)) == [("a_b", {"c", "d", "le"}), ("e", {"le"})]


@pytest.fixture
async def available(analytics_server: GrpcServer, tmp_path: Path) -> dict[str, set[str]]:
    """Every sample's labels, by its name, after chats of all kinds."""
    async with AsyncExitStack() as stack:
        model_host = await stack.enter_async_context(model_server())
        settings = ChatSettings.model_validate(
            {
                "DACA_DATA_DIR": tmp_path,
                "ANALYTICS_ADDRESS": f"127.0.0.1:{analytics_server.port}",
                "OPENAI_BASE_URL": model_host.url,
                "CHAT_MODEL": "m",
            }
        )
        analytics, load = AnalyticsClient(analytics_peer(settings)), Load()
        stack.push_async_callback(analytics.close)
        stores = await stack.enter_async_context(open_stores(settings.database))
        outbox = await stack.enter_async_context(sending(stores.outbox_rows, analytics))
        model = choose_model(settings)
        stack.push_async_callback(model.close)
        settled = SettledAnalytics(analytics, outbox)
        conversation = Conversation(
            settled, outbox, stores.memory, ChatAgent(measured(model)),
            max_text_length=100, timeout_s=5, on_no_count=count_fallback,
        )  # fmt: skip
        status = Status(analytics, outbox, load, model=model.name)
        history = History(stores.archive)
        app = build_gateway(conversation, history, settled, status, cors_origins=[])
        stack.enter_context(observed(load, outbox, conversation))
        transport = httpx2.ASGITransport(app=RequestReporter(app))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            for path in ("/chat/", "/chat/stream"):
                body: dict[str, Any] = {"user_id": "alice", "text": "hi"}
                assert (await http.post(path, json=body)).status_code == 200
        return {
            sample.name: set(sample.labels)
            for family in await asyncio.to_thread(lambda: list(REGISTRY.collect()))
            for sample in family.samples
        }


async def test_the_dashboard_and_the_alerts_ask_for_what_is_there(
    available: dict[str, set[str]],
) -> None:
    asked = [found for expression in expressions() for found in selectors(expression)]
    assert len(asked) > 30
    missing = {
        f"{name} by {labels}"
        for name, labels in asked
        if name not in GIVEN and (name not in available or not labels <= available[name])
    }
    assert missing == set()


def test_prometheus_scrapes_the_ports_of_the_run_file() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    analytics, chat = yaml.safe_load((ROOT / "dapr.yaml").read_text())["apps"]
    assert scraped == {
        "chat-service": [f"127.0.0.1:{chat['env']['CHAT_METRICS_PORT']}"],
        "analytics-service": [f"127.0.0.1:{analytics['env']['ANALYTICS_METRICS_PORT']}"],
        "chat-service-sidecar": [f"127.0.0.1:{chat['metricsPort']}"],
        "analytics-service-sidecar": [f"127.0.0.1:{analytics['metricsPort']}"],
    }
    assert all((FOLDER / name).exists() for name in config["rule_files"])
