"""How the chat service ends: when it is stopped, and when it can't go on."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.responses import PlainTextResponse

from chat_service.app import serve
from chat_service.settings import ChatSettings
from chat_service.web.server import HttpServer
from daca_shared.calls.server import GrpcServer
from daca_shared.domain import Failed
from daca_shared.storage.files import lock
from lab.postgres import connected
from lab.stack import UNSET, eventually
from scripts.lib.project import ROOT
from tests.commands import command

SETTINGS = ChatSettings.model_validate({"CHAT_GRPC_PORT": 0, "DACA_DRAIN_S": 0})
Error = BaseException | None


class EndingServer(HttpServer):
    """Ends by itself with a given error, once allowed."""

    def __init__(self, reason: Error) -> None:
        super().__init__(PlainTextResponse("answered"), "127.0.0.1", 0)
        self.may_end = asyncio.Event()
        self._reason = reason

    async def start(self) -> None:
        await super().start()
        self.serving = asyncio.create_task(self._end())

    async def stop(self, grace_s: float) -> None:
        self.may_end.set()
        await super().stop(grace_s)

    async def _end(self) -> None:
        await self.may_end.wait()
        if self._reason:
            raise self._reason


async def end(begin: Callable[[EndingServer, asyncio.Event], None], reason: Error = None) -> None:
    http_server, stop = EndingServer(reason), asyncio.Event()
    serving = asyncio.create_task(serve(SETTINGS, GrpcServer(), http_server, stop, lambda: None))
    await asyncio.sleep(0.1)
    assert not serving.done()
    begin(http_server, stop)
    try:
        async with asyncio.timeout(5):
            await serving
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("reason", [None, OSError("the reason")])
async def test_an_http_server_that_ends_by_itself_ends_the_service(
    reason: Error, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Failed, match="The HTTP server has ended by itself"):
        await end(lambda server, _: server.may_end.set(), reason)
    assert "the HTTP server has ended by itself" in caplog.text
    assert ("the reason" in caplog.text) is bool(reason)


async def test_a_stopped_service_exits_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    await end(lambda _, stop: stop.set())
    assert caplog.text == ""


@pytest.mark.parametrize("port", ["CHAT_HTTP_PORT", "CHAT_GRPC_PORT"])
def test_a_service_that_cannot_start_logs_why_as_its_last_line(tmp_path: Path, port: str) -> None:
    """Unknown trace headers don't stop it: `OTEL_PROPAGATORS` may be set for a whole cluster, and a
    library reads it when it is imported."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"CHAT_HTTP_PORT": 0, "CHAT_GRPC_PORT": 0, "CHAT_METRICS_PORT": 0}
        ports[port] = taken.getsockname()[1]
        settings = {"DACA_DATA_DIR": str(tmp_path)} | {k: str(v) for k, v in ports.items()}
        settings["OTEL_PROPAGATORS"] = "tracecontext,b3"
        ended = subprocess.run(
            [sys.executable, "-m", "chat_service"],
            cwd=ROOT, env=UNSET | settings, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"chat_service: Port {ports[port]} on 127.0.0.1 is taken")
    assert port in last
    assert "`ss -ltnp`" in last


def last_line_of(service: str, folder: Path, **settings: str) -> str:
    """The line with which a service ends that can't begin."""
    ended = subprocess.run(
        [sys.executable, "-m", service], env=UNSET | {"DACA_DATA_DIR": str(folder)} | settings,
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    return ended.stderr.splitlines()[-1]


KEY_LOG = ("SSLKEYLOGFILE", "/dev/null/keys", "SSLKEYLOGFILE: Not a directory")
LINKS = ("OTEL_SPAN_LINK_COUNT_LIMIT", "many", "OTEL_SPAN_LINK_COUNT_LIMIT must be a non-negative")
DELAY = ("OTEL_BSP_SCHEDULE_DELAY", "0", "OTEL_…: schedule_delay_millis must be positive")


# Both services hand OpenTelemetry's variables to the same function: one of them each is enough.
@pytest.mark.parametrize(
    ("service", "variable", "value", "told"),
    [
        ("analytics_service", *KEY_LOG),
        ("analytics_service", *LINKS),
        ("chat_service", *KEY_LOG),
        ("chat_service", *DELAY),
    ],
)
def test_a_bad_variable_of_a_library_is_named(
    tmp_path: Path, service: str, variable: str, value: str, told: str
) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", variable: value}
    off = {"ANALYTICS_METRICS_PORT": "off", "CHAT_METRICS_PORT": "off"}
    assert told in last_line_of(service, tmp_path, **settings, **off)


@pytest.mark.parametrize("service", ["analytics", "chat"])
def test_a_second_service_names_the_first_not_only_its_port(tmp_path: Path, service: str) -> None:
    """Whatever libraries would do with variables of other programs."""
    foreign = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "gone"), "OTEL_PYTHON_CONTEXT": "own"}
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as first:
        lock(tmp_path / f"{service}.lock", first)
        port = {f"{service.upper()}_METRICS_PORT": str(taken.getsockname()[1])}
        last = last_line_of(f"{service}_service", tmp_path, **foreign, **port)
    assert f"process {os.getpid()} uses this data folder" in last


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [("--port 8080", 2, "unrecognized arguments: --port 8080"), ("--help", 0, "configuration.md")],
)
def test_a_service_takes_no_arguments(arguments: str, code: int, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "analytics_service", *arguments.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, told in ended.stdout + ended.stderr) == (code, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces: no firewall is tried")
def test_a_service_that_cannot_reach_its_own_port_says_so(tmp_path: Path) -> None:
    settings = {"DACA_DATA_DIR": str(tmp_path), "CHAT_METRICS_PORT": "off"}
    ended = subprocess.run(
        # In a new namespace the loopback interface is down.
        ["unshare", "--net", sys.executable, "-m", "chat_service"],
        cwd=ROOT, env=UNSET | settings, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    told = "chat_service: Nothing can connect to 127.0.0.1:8000, not even this service"
    assert ended.stderr.splitlines()[-1] == told


@pytest.mark.parametrize("service", ["chat", "analytics"])
async def test_a_service_that_waits_for_anothers_migration_can_be_stopped(
    service: str, database_url: SecretStr, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": database_url.get_secret_value()}
    settings |= {"CHAT_METRICS_PORT": "off", "ANALYTICS_METRICS_PORT": "off"}
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with connected(database_url) as other:
        await other.execute("SELECT pg_advisory_lock(hashtext($1))", f"daca {service}")
        start = (sys.executable, "-m", f"{service}_service")
        async with command(*start, folder=tmp_path, settings=UNSET | settings) as process:
            await eventually(lambda: other.fetchval(waiting), 1)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGTERM
