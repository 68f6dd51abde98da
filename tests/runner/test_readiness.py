"""A stack that isn't ready reports why."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.machine import free_port
from lab.stack import eventually
from scripts.lib import probes
from scripts.lib.project import ROOT, StackError
from scripts.running.readiness import wait_until_ready
from scripts.service import Service
from scripts.stack import Stack

LISTEN = (
    "import socket, sys, time\n"
    "print(sys.argv[2], flush=True)\n"
    "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "time.sleep(60)"
)
SLEEP = "import sys, time; print(sys.argv[2], flush=True); time.sleep(60)"


def process(folder: Path, name: str, says: str, *, serves: bool) -> Service:
    port = free_port()
    script = LISTEN if serves else SLEEP
    command = [sys.executable, "-c", script, str(port), says]
    return Service(name, command, {}, {"gRPC": port}, folder / f"{name}.log")


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    for service in services:
        await service.start()
    try:

        async def have_spoken() -> bool:
            return all(service.last_words() for service in services)

        await eventually(have_spoken, expected=True)
        yield
    finally:
        for service in services:
            await service.stop()


@asynccontextmanager
async def chat_that_says(body: object) -> AsyncIterator[str]:
    """A server whose /readyz answers with `body`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\nconnection: close\r\n\r\n" + json.dumps(body).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz"


async def reason(*services: Service, url: str) -> str:
    with pytest.raises(StackError) as error:
        await wait_until_ready(services, url, timeout_s=1)
    return str(error.value)


async def test_a_process_that_does_not_serve_is_named_with_its_output(tmp_path: Path) -> None:
    good = process(tmp_path, "good", "all is well", serves=True)
    bad = process(tmp_path, "bad", "No supported interface", serves=False)
    url = f"http://127.0.0.1:{free_port()}/readyz"
    async with running(good, bad):
        await asyncio.sleep(0.2)
        told = await reason(good, bad, url=url)
    assert "bad does not serve; its last words:\n    No supported interface" in told
    assert "good" not in told


async def test_if_all_serve_chat_and_its_errors_show_the_reason(tmp_path: Path) -> None:
    lines = 'level=error msg="No supported interface"\nlevel=warning msg="never mind"'
    sidecar = process(tmp_path, "a-sidecar", lines, serves=True)
    app = process(tmp_path, "a", '{"level": "info", "event": "serving"}', serves=True)
    async with running(sidecar, app), chat_that_says({"analytics": "can't be reached"}) as url:
        await asyncio.sleep(0.2)
        told = await reason(sidecar, app, url=url)
    assert told.splitlines() == [
        "not ready after 1 s:",
        "chat says: can't be reached",
        "a-sidecar says:",
        '    level=error msg="No supported interface"',
    ]


async def test_a_process_that_ends_is_reported_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    service = Service("a", command, {}, {}, tmp_path / "a.log")
    await service.start()
    await service.ended()
    told = await reason(service, url="http://127.0.0.1:1/readyz")
    assert told == "a ended while starting (exit code 1); its last words:\n    no such option"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk: a full one is NOT tested")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=True)
    (tmp_path / "ballast").write_bytes(bytes(16_384))
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


async def test_a_full_disk_on_which_a_process_has_no_last_words_is_named(full_disk: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    service = Service("a", command, {}, {}, full_disk / "a.log")
    await service.start()
    await service.ended()
    assert service.last_words() == f"    the disk of {full_disk} is full"


async def test_readiness_ignores_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    async with chat_that_says({"analytics": "ok"}) as url:
        await wait_until_ready([], url, timeout_s=5)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("kill -40 $$", "killed by signal 40"),
    ],
)
async def test_the_way_a_process_ended_is_reported(tmp_path: Path, script: str, told: str) -> None:
    service = Service("a", ["sh", "-c", script], {}, {}, tmp_path / "a.log")
    await service.start()
    await service.ended()
    assert service.ending() == told


STARTS_LATE = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
began = time.monotonic()
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - began > 1 else 503)
        self.end_headers()
print("loading", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


async def test_a_local_model_that_still_loads_is_waited_for(tmp_path: Path) -> None:
    stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment={})
    stack.services = {}  # only the model is started here
    port = free_port()
    stack.add_local_model(port)
    model = stack.services["local-model"]
    model.command = [sys.executable, "-c", STARTS_LATE, str(port)]
    async with running(model), chat_that_says({"analytics": "ok"}) as url:
        await stack.wait_until_ready(url)
        assert probes.get(f"http://127.0.0.1:{port}/health")[0] == 200


async def test_a_local_model_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no weights')"]
    service = Service("local-model", command, {}, {}, tmp_path / "model.log")
    async with running(service):
        with pytest.raises(StackError, match=r"local-model does not serve.*\n.*no weights"):
            await service.answers(f"http://127.0.0.1:{free_port()}/", 10)
