"""Both services and real daprd processes, with their own app ids and ports."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import yaml

from daca_shared.settings import ServiceSettings
from lab.machine import free_port
from scripts.lib.project import ROOT
from scripts.names import write_names
from scripts.service import Service
from scripts.stack import Stack
from scripts.tracing import trace_sidecars

UNSET = dict.fromkeys(
    (
        "OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "CHAT_MODEL", "AUTH_JWKS_URL",
        "AUTH_JWT_SECRET", "CHAT_RATE_LIMIT_USER", "CHAT_RATE_LIMIT_ADDRESS",
        "DATABASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        "OTEL_TRACES_SAMPLER", "DACA_TRACE_CONTENT",
    ),
    "",
)  # fmt: skip
"""An environment without the developer's own keys and settings."""

_OURS = ("analytics-service", "chat-service")


def render_run_file(folder: Path) -> Path:
    """Write the project's dapr.yaml with the test's own app ids and ports, without further apps."""
    suffix = uuid4().hex[:8]
    config = yaml.safe_load((ROOT / "dapr.yaml").read_text())
    config["apps"] = [app for app in config["apps"] if app["appID"] in _OURS]
    text = yaml.safe_dump(config, sort_keys=False)
    ports = {port: free_port() for port in (8000, 9464, 9465)}
    keys = ("appPort", "daprHTTPPort", "daprGRPCPort", "daprInternalGRPCPort", "metricsPort")
    ports |= {app[key]: free_port() for app in config["apps"] for key in keys}

    def our_own(text: str) -> str:
        for old, new in ports.items():
            text = text.replace(f" {old}\n", f" {new}\n").replace(f"'{old}'", f"'{new}'")
            text = text.replace(f":{old} ", f":{new} ").replace(f":{old}\n", f":{new}\n")
        for app_id in _OURS:
            text = text.replace(app_id, f"{app_id}-{suffix}")
        return text

    text = our_own(text)
    resources = render_resources(folder, f"analytics-service-{suffix}", f"chat-service-{suffix}")
    text = text.replace("deploy/local/resources", str(resources))
    configuration = folder / "config.yaml"
    configuration.write_text(our_own((ROOT / "deploy/local/config.yaml").read_text()))
    text = text.replace("deploy/local/config.yaml", str(configuration))
    text = text.replace(".venv/bin/python", str(ROOT / ".venv/bin/python"))
    text = text.replace("appDirPath: .\n", f"appDirPath: {folder}\n")
    run_file = folder / "dapr.yaml"
    run_file.write_text(text)
    return run_file


def render_resources(folder: Path, analytics: str, chat: str) -> Path:
    """Write the project's policies for apps with these ids. Returns their folder."""
    resources = folder / "resources"
    resources.mkdir()
    text = (ROOT / "deploy/local/resources/resiliency.yaml").read_text()
    text = text.replace("analytics-service", analytics).replace("chat-service", chat)
    (resources / "resiliency.yaml").write_text(text)
    return resources


def http(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of the response to one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=70) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


class RunningStack:
    """The whole system, and the faults that a test can inject."""

    def __init__(self, stack: Stack, run_file: Path) -> None:
        self.stack = stack
        self.run_file = run_file
        apps = [s for s in stack.services.values() if "gRPC" in s.ports and not s.is_sidecar]
        self.analytics, self.chat = (app.name for app in apps)
        self.url = f"http://127.0.0.1:{stack.services[self.chat].ports['HTTP']}"

    def sidecar_port(self, app: str, protocol: str) -> int:
        return self.stack.services[f"{app}-sidecar"].ports[protocol]

    async def chat_with(self, user_id: str, text: str = "How many?") -> tuple[int, Any]:
        body = {"user_id": user_id, "text": text}
        return await asyncio.to_thread(http, "POST", f"{self.url}/chat/", body)

    async def count(self, user_id: str) -> int | None:
        url = f"{self.url}/users/{user_id}/analytics"
        status, body = await asyncio.to_thread(http, "GET", url)
        return body["message_count"] if status == 200 else None

    async def wait_until_ready(self) -> None:
        await self.stack.wait_until_ready(f"{self.url}/readyz")


async def eventually(
    condition: Callable[[], Awaitable[Any]], expected: Any, timeout_s: float = 15
) -> None:
    """Wait until `condition` returns `expected`; fail with its last value if it doesn't in time."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (value := await condition()) != expected:
        assert asyncio.get_running_loop().time() < deadline, f"still {value!r}, not {expected!r}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running_stack(
    folder: Path,
    daprd: Path | None,
    prepare: Callable[[RunningStack], None] = lambda running: None,
    environment: Mapping[str, str] = MappingProxyType({}),
    also: Sequence[Service] = (),
) -> AsyncIterator[RunningStack]:
    """The running system. `prepare` may first change its processes' commands and environments.
    `also` are sidecars whose apps it must find besides its own."""
    with patch.dict(os.environ, {"DACA_DATA_DIR": str(folder / "data"), **environment}):
        run_file = render_run_file(folder)
        stack = Stack(run_file, daprd=daprd, log_dir=folder / "logs")
        trace_sidecars(stack, ServiceSettings(), folder / "tracing")
    running = RunningStack(stack, run_file)
    prepare(running)
    write_names(stack, folder / "names.yaml", also)
    await stack.start()
    try:
        await running.wait_until_ready()
        yield running
    finally:
        await stack.stop()
