"""The image and the Compose system as they run. The order matters: the last test stops them."""

import re
from pathlib import Path

import pytest

from lab.stack import http
from scripts.lib.project import ROOT
from tests.containers.conftest import FOLDER, Containers, eventually, run

PAIRS = ("chat", "analytics")


def test_a_chat_is_answered_and_counted(containers: Containers) -> None:
    assert [containers.chat("alice") for _ in range(3)] == [(200, 0), (200, 1), (200, 2)]
    _, ready = http("GET", f"{containers.url}/readyz")
    assert ready["analytics"] == "ok"


@pytest.mark.parametrize(
    "crashed", [f"{name}{part}" for name in PAIRS for part in ("", "-sidecar")]
)
def test_each_crashed_container_rejoins_its_pair(containers: Containers, crashed: str) -> None:
    before = containers.state(crashed)["StartedAt"]
    containers.chat(crashed)
    containers.kill(crashed)
    eventually(lambda: containers.state(crashed)["StartedAt"] != before)
    # An answer with a count has passed both sidecars.
    eventually(lambda: (containers.chat(crashed)[1] or 0) > 0)
    _, ready = http("GET", f"{containers.url}/readyz")
    assert ready["analytics"] == "ok"


@pytest.mark.parametrize("app", PAIRS)
def test_an_app_that_is_told_to_stop_while_it_starts_is_not_killed(
    containers: Containers, app: str
) -> None:
    containers.compose("restart", "--no-deps", app)
    containers.compose("stop", app)
    killed = 137
    assert containers.state(app)["ExitCode"] != killed
    containers.compose("up", "--detach", "--wait", "chat")


@pytest.mark.parametrize("app", PAIRS)
def test_the_root_is_read_only_and_the_user_not_root(containers: Containers, app: str) -> None:
    script = "id -u; touch /tmp/here /data/here; touch /here 2>&1 || true"
    user, refusal = containers.compose("exec", "-T", app, "sh", "-c", script).splitlines()
    assert user == "10001"
    assert "Read-only file system" in refusal


def test_an_agent_is_mounted_as_documented(containers: Containers) -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    [(source, target)] = re.findall(r'`volumes: \["(\.[^:]+):(/own\S*):ro"\]`', page)
    [path] = re.findall(r"`PYTHONPATH: (\S+)`", page)
    mount = ("-v", f"{(FOLDER / source).resolve()}:{target}:ro", "-e", f"PYTHONPATH={path}")
    loads = "import pkgutil; print(pkgutil.resolve_name('examples.guardrails:extend').__name__)"
    assert run("docker", "run", "--rm", *mount, containers.image, "-c", loads) == "extend"


def test_health_reports_the_database(containers: Containers) -> None:
    def health() -> set[str]:
        return {containers.state(app)["Health"]["Status"] for app in PAIRS}

    containers.compose("stop", "postgres")
    eventually(lambda: health() == {"unhealthy"})
    status, told = http("GET", f"{containers.url}/readyz")
    assert (status, told["detail"]) == (
        503,
        "Not ready: PostgreSQL can't be used: it can't be reached",
    )
    containers.compose("start", "postgres")
    eventually(lambda: health() == {"healthy"})
    assert containers.chat("alice")[0] == 200


def test_an_upgrade_replaces_only_the_apps(containers: Containers, tmp_path: Path) -> None:
    parts = [f"{app}{part}" for app in PAIRS for part in ("", "-sidecar", "-network")]
    before = {part: containers.state(part)["StartedAt"] for part in parts}
    (tmp_path / "Dockerfile").write_text(f"FROM {containers.image}\nLABEL upgraded={tmp_path}\n")
    run("docker", "build", "--tag", containers.image, tmp_path)
    containers.compose("up", "--detach", "--wait", "chat")
    replaced = {part for part in parts if containers.state(part)["StartedAt"] != before[part]}
    assert replaced == set(PAIRS)
    assert containers.chat("alice")[0] == 200


def test_a_stop_ends_apps_before_sidecars_and_loses_nothing(containers: Containers) -> None:
    status, before = containers.chat("alice")
    assert status == 200
    containers.compose("stop")
    for app in PAIRS:
        ended = [containers.state(f"{app}{part}") for part in ("", "-sidecar", "-network")]
        assert [state["ExitCode"] for state in ended] == [0, 0, 0]
        times = [state["FinishedAt"] for state in ended]
        assert times == sorted(times)
    containers.compose("up", "--detach", "--wait", "chat")
    assert before is not None
    assert containers.chat("alice") == (200, before + 1)
