"""What the README tells people to type who have Dapr's CLI, against the real one."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import yaml

from lab.machine import tool
from lab.stack import eventually, http, render_run_file
from scripts.lib.project import ROOT
from tests.commands import ask, command, is_free, output_of, ports_of, read_until


async def test_dapr_run_serves_the_readmes_commands(tmp_path: Path, daprd: Path) -> None:
    run_file = render_run_file(tmp_path)
    analytics_id, chat_id = (a["appID"] for a in yaml.safe_load(run_file.read_text())["apps"])
    ports = ports_of(run_file)
    home_with(daprd, tmp_path)
    dapr, grpcurl = tool("DAPR_CLI"), tool("GRPCURL")
    async with command(
        dapr, "run", "-f", run_file, folder=tmp_path, HOME=str(tmp_path / "home")
    ) as process:
        url = f"http://localhost:{ports['http']}"
        await until_ready(ports["http"])
        # Exactly as people type it: curl declares a form, and still sends JSON.
        body = '{"user_id":"alice","text":"How many messages have I sent?"}'
        counts = [
            json.loads(await output_of("curl", "-sX", "POST", f"{url}/chat/", "-d", body))
            for _ in range(2)
        ]
        assert [answer["message_count"] for answer in counts] == [5, 6]

        get = "daca.analytics.v1.AnalyticsService/GetAnalytics"
        services = await output_of(grpcurl, "-plaintext", f"127.0.0.1:{ports['analytics']}", "list")
        assert "daca.analytics.v1.AnalyticsService" in services
        bob = ("-d", '{"user_id":"bob"}')
        direct = await output_of(
            grpcurl, "-plaintext", *bob, f"127.0.0.1:{ports['analytics']}", get
        )
        # The server's reflection has no JSON names, so grpcurl shows the proto's.
        assert json.loads(direct)["analytics"] == {"user_id": "bob", "message_count": "3"}
        proxied = await output_of(
            grpcurl, "-plaintext", "-H", f"dapr-app-id: {analytics_id}", "-import-path", "protos",
            "-proto", "daca/analytics/v1/analytics.proto", *bob,
            f"127.0.0.1:{ports['sidecar grpc']}", get,
        )  # fmt: skip
        assert json.loads(proxied)["analytics"] == {"userId": "bob", "messageCount": "3"}
        reply = await output_of(
            grpcurl, "-plaintext", "-d", '{"user_id":"bob","text":"Hello"}',
            f"127.0.0.1:{ports['chat']}", "daca.chat.v1.ChatService/Chat",
        )  # fmt: skip
        assert json.loads(reply)["message_count"] == "3"

        listed = await output_of(dapr, "list")
        assert analytics_id in listed
        assert chat_id in listed
        invoked = await output_of(
            dapr, "invoke", "--app-id", analytics_id, "--method", "analytics/bob", "--verb", "GET"
        )
        assert '"message_count"' in invoked
        await output_of(dapr, "stop", "-f", run_file)
        await asyncio.wait_for(process.communicate(), 20)
    # It tells all to end, and does not wait for them.
    await until_all_are_free(ports)


async def test_each_service_runs_by_hand_in_a_terminal_of_its_own(
    tmp_path: Path, daprd: Path
) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
    apps = yaml.safe_load(run_file.read_text())["apps"]
    ids = {"analytics-service": apps[0]["appID"], "chat-service": apps[1]["appID"]}
    # As people type it, but for what two tests at once would share.
    ours = {"deploy/local/config.yaml": str(tmp_path / "config.yaml"), **ids}
    ours |= {"deploy/local/resources": str(tmp_path / "resources")}
    ours |= {"8001": str(ports["analytics"]), "8002": str(ports["chat"])}
    ours |= {str(3503 - n): str(app["daprInternalGRPCPort"]) for n, app in enumerate(apps)}
    settings = {name: value for app in apps for name, value in app["env"].items()}
    settings |= {"HOME": str(home_with(daprd, tmp_path)), "ANALYTICS_SEED_DEMO_USERS": ""}
    settings["PATH"] = f"{tool('DAPR_CLI').parent}:{os.environ['PATH']}"
    analytics, chat = typed_in_readme("dapr run --app-id", ours)
    async with (
        command("bash", "-c", analytics, folder=tmp_path, settings=settings) as first,
        command("bash", "-c", chat, folder=tmp_path, settings=settings) as second,
    ):
        for process in (first, second):
            await read_until(process, "You're up and running")

        await until_ready(ports["http"])
        assert [await ask(ports["http"]), await ask(ports["http"])] == [5, 6]
        for process in (first, second):
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 20)
    await until_all_are_free(ports)


async def until_ready(port: int) -> None:
    async def is_ready() -> Any:
        try:
            _, body = await asyncio.to_thread(http, "GET", f"http://127.0.0.1:{port}/readyz")
        except OSError:
            return None
        return body["analytics"]

    await eventually(is_ready, "ok", timeout_s=60)


async def until_all_are_free(ports: dict[str, int]) -> None:
    async def left() -> list[str]:
        return [use for use, port in ports.items() if not is_free(port)]

    await eventually(left, [])


def home_with(daprd: Path, folder: Path) -> Path:
    """A HOME with daprd where `dapr init --slim` puts it."""
    runtime = folder / "home/.dapr/bin/daprd"
    runtime.parent.mkdir(parents=True)
    runtime.symlink_to(daprd)
    return folder / "home"


def typed_in_readme(text: str, instead: dict[str, str]) -> list[str]:
    """The README's commands with that text, with other names and ports."""
    blocks = (ROOT / "README.md").read_text().split("```console\n$ ")[1:]
    found = [block.partition("```")[0].replace("\\\n", " ") for block in blocks]
    commands = [command for command in found if text in command]
    for old, new in instead.items():
        commands = [command.replace(old, new) for command in commands]
    return commands
