"""The metrics that the dashboard and the alerts use exist once the real services have run."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client import REGISTRY

from chat_service.agent.models import choose_model
from chat_service.health.metrics import REFUSALS, observed
from chat_service.settings import ChatSettings
from scripts.lib.project import ROOT
from scripts.openapi import document
from tests.http.gateways import body
from tests.model_server import model_server
from tests.real_services import running_services

FOLDER = ROOT / "deploy/observability"
WORDS = {"sum", "rate", "by", "histogram_quantile", "or", "absent"}
# Made by Prometheus itself.
GIVEN = {"up"}


def expressions() -> Iterator[str]:
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in a PromQL expression, with the labels that it needs."""
    grouped = {
        label for labels in re.findall(r"by \(([^)]*)\)", expression)
        for label in re.split(r",\s*", labels)
    }  # fmt: skip
    bare = re.sub(r"by \([^)]*\)|\[[^\]]*\]", "", expression)
    for name, matchers in re.findall(r"([a-z_:]+)\b(?!\()(?:\{([^}]*)\})?", bare):
        if name not in WORDS:
            labels = set(re.findall(r"(\w+)(?==|!)", re.sub(r'"[^"]*"', '""', matchers)))
            # A scrape adds `job`.
            yield name, labels | grouped - {"job"}


def test_the_parser_finds_metrics_and_their_labels() -> None:
    expression = 'sum by (le, job) (rate(a_b{c="x=y",d!~"5.."}[5m])) / e > 0.1'
    assert list(selectors(expression)) == [("a_b", {"c", "d", "le"}), ("e", {"le"})]


@pytest.fixture
async def available(tmp_path: Path) -> dict[str, set[str]]:
    """The labels of all samples, by name, after chats of all kinds."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(model_server())
        settings = {"OPENAI_BASE_URL": host.url, "CHAT_MODEL": "m"}
        model = choose_model(ChatSettings.model_validate(settings))
        services = await stack.enter_async_context(running_services(tmp_path, model))
        stack.enter_context(observed(services.admission, services.outbox, services.conversation))
        transport = httpx2.ASGITransport(app=services.gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            for path in ("/chat/", "/chat/stream"):
                assert (await http.post(path, json=body())).status_code == 200
        return {
            sample.name: set(sample.labels)
            for family in await asyncio.to_thread(lambda: list(REGISTRY.collect()))
            for sample in family.samples
        }


async def test_the_dashboard_and_the_alerts_use_existing_metrics(
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


def test_the_alert_of_a_process_that_is_down_knows_services_without_any() -> None:
    [config] = yaml.safe_load_all((FOLDER / "prometheus.yml").read_text())
    jobs = {scraped["job_name"] for scraped in config["scrape_configs"]}
    absent = {j for e in expressions() for j in re.findall(r'absent\(up{job="([^"]+)"}\)', e)}
    assert absent == {job for job in jobs if not job.endswith("-sidecar")}


def test_the_alert_of_chats_that_fail_knows_every_route_of_a_chat() -> None:
    routes = {path for path, methods in document()["paths"].items() if "post" in methods}
    patterns = {p for e in expressions() for p in re.findall(r'http_route=~"([^"]+)"', e)}
    assert len(routes) == 3
    assert {r for r in routes for p in patterns if re.fullmatch(p, r)} == routes


def test_the_alert_of_a_model_that_fails_excepts_refusals_by_a_host_that_works() -> None:
    (excepted,) = (p for e in expressions() for p in re.findall(r'error_type!~"([^"]+)"', e))
    assert set(excepted.split("|")) == {"", "cancelled", *REFUSALS}


def test_chats_that_their_callers_give_up_have_an_alert_of_their_own() -> None:
    alone = {p for e in expressions() for p in re.findall(r'error_type="([^"]+)"', e)}
    assert alone == {"cancelled"}


def test_no_metric_of_a_sidecar_has_paths_and_so_user_ids() -> None:
    files = [*(ROOT / "deploy").rglob("*.yaml"), *(ROOT / "examples").rglob("*.yaml")]
    parsed = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    specs = [made["spec"] for made in parsed if made and made.get("kind") == "Configuration"]
    of_sidecars = [spec for spec in specs if "mtls" not in spec]
    assert len(of_sidecars) == 7
    for spec in of_sidecars:
        assert spec["metrics"] == {"enabled": True, "http": {"increasedCardinality": False}}


def test_prometheus_scrapes_the_ports_of_the_run_file() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    analytics, chat, *_ = yaml.safe_load((ROOT / "dapr.yaml").read_text())["apps"]
    assert scraped == {
        "chat-service": [f"127.0.0.1:{chat['env']['CHAT_METRICS_PORT']}"],
        "analytics-service": [f"127.0.0.1:{analytics['env']['ANALYTICS_METRICS_PORT']}"],
        "chat-service-sidecar": [f"127.0.0.1:{chat['metricsPort']}"],
        "analytics-service-sidecar": [f"127.0.0.1:{analytics['metricsPort']}"],
    }
    assert all((FOLDER / name).exists() for name in config["rule_files"])
