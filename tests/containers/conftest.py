"""The Compose system on a real Docker engine, as a separate project."""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.stack import UNSET, http
from scripts.lib.project import ROOT

FOLDER = ROOT / "deploy/compose"
_TIMEOUT_S = 90

_PROXIES = dict.fromkeys(
    ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9"
)
"""What Docker adds to each container if its configuration has `proxies`. Nothing listens there."""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


class Containers:
    """The system of `compose.yaml`, on free ports and with its own passwords."""

    def __init__(self, folder: Path) -> None:
        config = yaml.safe_load((FOLDER / "compose.yaml").read_text())
        built = config["services"]["chat"]["image"]
        for service in config["services"].values():
            service["environment"] = _PROXIES | service.get("environment", {})
            if ports := service.get("ports"):
                service["ports"] = [f"127.0.0.1::{port.rpartition(':')[2]}" for port in ports]
            if service["image"] == built:
                # With its own tag, a system that runs here would use this image at its next `up`.
                service["image"] = "daca-chat:test"
        file = folder / "compose.yaml"
        file.write_text(yaml.safe_dump(config))
        project = f"daca-test-{secrets.token_hex(4)}"
        place = ("-p", project, "-f", file, "--project-directory", FOLDER)
        self._compose = ("docker", "compose", *place)
        self.image = config["services"]["chat"]["image"]

    @property
    def url(self) -> str:
        return f"http://{self.compose('port', 'chat-network', '8000')}"

    def compose(self, *arguments: str) -> str:
        return run(*self._compose, *arguments)

    def state(self, service: str) -> Any:
        return json.loads(run("docker", "inspect", self._id(service)))[0]["State"]

    def kill(self, service: str) -> None:
        """Crash a service. Docker doesn't restart what `docker kill` ends."""
        pid = self.state(service)["Pid"]
        in_host = ("--pid=host", "--user=0", "--entrypoint=sh", self.image, "-c", f"kill -9 {pid}")
        run("docker", "run", "--rm", *in_host)

    def chat(self, user_id: str) -> tuple[int, int | None]:
        """The status of a chat, and the message count in its answer."""
        try:
            status, body = http("POST", f"{self.url}/chat/", {"user_id": user_id, "text": "hi"})
        except OSError:
            return 0, None
        return status, body.get("message_count")

    def _id(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service)


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    asked = ["docker", "compose", "ls"]
    if not shutil.which("docker") or subprocess.run(asked, check=False).returncode:
        pytest.skip("no Docker engine here: the image and Compose are NOT tested")
    names = ("POSTGRES", "CHAT_DB", "ANALYTICS_DB", "GRAFANA")
    passwords = {f"{name}_PASSWORD": secrets.token_hex(16) for name in names}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (UNSET | passwords).items():
            environment.setenv(name, value)
        started = Containers(tmp_path_factory.mktemp("compose"))
        try:
            started.compose("up", "--build", "--detach", "--wait", "chat")
            yield started
        finally:
            started.compose("down", "--volumes")
