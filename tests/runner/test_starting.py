"""`scripts/run.sh` on machines with all kinds of settings."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from lab.machine import free_port
from lab.stack import http, render_run_file
from scripts.lib.probes import is_free
from scripts.lib.project import ROOT
from tests.commands import READY, command, output_of, ports_of, read_until, stopped, typed, url_in


async def test_neither_a_hostile_environment_nor_another_server_changes_anything(
    tmp_path: Path,
) -> None:
    run_file = render_run_file(tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "yaml.py").write_text("raise SystemExit('another yaml')")
    (tmp_path / "bashrc").write_text("echo printed by BASH_ENV\n")
    nowhere = f"127.0.0.1:{free_port()}"
    hostile = {
        "CDPATH": f"{tmp_path}:{ROOT}",
        "BASH_ENV": str(tmp_path / "bashrc"),
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv"),
        "UV_WORKING_DIR": str(tmp_path),
        "UV_NO_EDITABLE": "1",
        "VIRTUAL_ENV": str(tmp_path / "another"),
        "GREP_OPTIONS": "--color=always",
        "http_proxy": f"http://{nowhere}",
        "https_proxy": f"http://{nowhere}",
        "all_proxy": f"socks5://{nowhere}",
        "DAPR_GRPC_PORT": "1",
    }
    unset = (
        "DACA_HOST", "CHAT_HTTP_PORT", "CHAT_GRPC_PORT", "CHAT_METRICS_PORT", "ANALYTICS_ADDRESS",
        "CHAT_MODEL_PROVIDER", "LOCAL_MODEL_PORT", "SENTRY_PORT", "ZIPKIN_PORT", "JAEGER_PORT",
        "DAPR_API_TOKEN", "APP_API_TOKEN", "no_proxy",
    )  # fmt: skip
    arguments = ("bash", "scripts/run.sh", "--direct", "--run-file", run_file)
    settings = hostile | dict.fromkeys(unset, "")
    port = ports_of(run_file)["http"]
    # An unrelated server, which those who connect to localhost may reach.
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        async with command(*arguments, folder=tmp_path, settings=settings) as process:
            shown = await read_until(process, READY)
            assert url_in(shown) == f"http://127.0.0.1:{port}"
            assert (await typed(shown))["message_count"] == 5
            status = await output_of(
                "scripts/status.sh", DACA_DATA_DIR=str(tmp_path / "data"), **hostile
            )
            assert status.count("SERVING") == 2
            await stopped(process)
    assert not (tmp_path / "venv").exists()


async def test_a_checkout_may_be_anywhere_and_has_its_own_env_file(tmp_path: Path) -> None:
    checkout = tmp_path / "a chéck out"
    ignored = shutil.ignore_patterns(".venv", ".git", "data", "__pycache__", ".*_cache", "bench")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    port = free_port()
    of_file: dict[str, object] = {"CHAT_HTTP_PORT": port, "CHAT_GRPC_PORT": 0}
    of_file |= {"ANALYTICS_GRPC_PORT": 0, "DACA_HOST": "localhost"}
    of_file |= {"CHAT_METRICS_PORT": 0, "ANALYTICS_METRICS_PORT": "off"}
    # Analytics requires this token. Nothing may look for a sidecar at this port.
    of_file |= {"APP_API_TOKEN": "t0ken", "DAPR_GRPC_PORT": free_port()}
    lines = [f"{name}={value}\n" for name, value in of_file.items()]
    (checkout / ".env").write_text("".join(lines))
    shutil.copy(ROOT / "dapr.yaml", checkout / "my.yaml")
    (tmp_path / "run").symlink_to("a chéck out/scripts/run.sh")
    start = f"cd '{tmp_path}' && exec ./run --direct --run-file 'a chéck out/my.yaml'"
    # Empty variables count as unset, so the file applies.
    settings = dict.fromkeys(of_file, "") | {"DACA_DATA_DIR": "", "CDPATH": str(tmp_path)}
    settings |= {"CHAT_METRICS_PORT": "off", "LC_ALL": "C"}
    async with command("bash", "-c", start, folder=tmp_path, settings=settings) as process:
        shown = await read_until(process, READY)
        assert url_in(shown) == f"http://127.0.0.1:{port}"
        assert f"logs in {checkout}/data/logs" in shown
        assert (await typed(shown))["message_count"] == 5
        await stopped(process)
    assert (checkout / "data/chat.db").exists()
    assert "metrics on" not in (checkout / "data/logs/chat-service.log").read_text()


async def test_the_address_the_port_and_the_data_folder_can_be_changed(tmp_path: Path) -> None:
    run_file, port = render_run_file(tmp_path), free_port()
    # A path with characters that separate paths for the sidecars, and a byte that is not UTF-8.
    folder = tmp_path / 'my "data", all of it \udce9'
    data = {"DACA_DATA_DIR": str(folder)}
    # Sidecars, too, must find their apps at that address.
    settings = data | {"CHAT_HTTP_PORT": str(port), "DACA_HOST": "::1"}
    start = ("scripts/run.sh", "--run-file", run_file)
    async with command(*start, folder=tmp_path, settings=settings) as process:
        shown = await read_until(process, READY)
        assert "WARNING" not in shown
        assert url_in(shown) == f"http://[::1]:{port}"
        assert (await typed(shown))["message_count"] == 5
        # The script finds the address and the port without the variables, too.
        status = await output_of("scripts/status.sh", **data)
        assert "through our sidecar" in status
        assert "DOWN" not in status
        await stopped(process)
    assert is_free("::1", port)
    logs = [path.read_text() for path in (folder / "logs").iterdir()]
    assert not any("APP_API_TOKEN is not set" in log for log in logs)


async def test_with_tokens_the_command_that_is_shown_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = render_run_file(tmp_path)
    monkeypatch.setenv("AUTH_JWT_SECRET", "a secret of thirty-two bytes or more")
    monkeypatch.setenv("AUTH_JWT_ISSUER", "https://issuer.example/")
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path, DACA_HOST="[::]"
    ) as process:
        shown = await read_until(process, READY)
        assert "WARNING" in shown
        assert "chat in any user's name" not in shown
        url = f"{url_in(shown)}/users/alice/analytics"
        assert (await asyncio.to_thread(http, "GET", url))[0] == 401
        assert (await typed(shown))["message_count"] == 5
        await stopped(process)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHAT_MODEL_PROVIDER", "remote"),
        ("LOCAL_MODEL_PORT", "0"),
        ("SENTRY_PORT", "99999"),
        ("DACA_HOST", "elsewhere.example"),
        ("DACA_DATA_DIR", "/dev/null/data"),
        ("OPENAI_BASE_URL", "localhost:11434"),
    ],
)
async def test_a_bad_variable_is_named_before_anything_is_installed_or_run(
    tmp_path: Path, variable: str, value: str
) -> None:
    start = ("scripts/run.sh", "--run-file", render_run_file(tmp_path))
    async with command(*start, folder=tmp_path, settings={variable: value}) as process:
        out, _ = await process.communicate()
    told = out.decode()
    assert process.returncode == 1
    assert variable in told
    assert "Traceback" not in told
    assert "starting" not in told


@pytest.mark.parametrize("name", ["logs", "names.yaml/folder"])
async def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.touch()
    start = ("scripts/run.sh", "--direct", "--run-file", render_run_file(tmp_path))
    async with command(*start, folder=tmp_path) as process:
        out, _ = await process.communicate()
    told = out.decode()
    assert process.returncode == 1
    assert f"directory: '{tmp_path}/data/{name.partition('/')[0]}" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("token.sh", [""]),
        ("token.sh", ["a/b"]),
        ("lint.sh", ["--fix"]),
        ("gen_protos.sh", ["--check", "all"]),
    ],
)
async def test_invalid_script_arguments_are_refused(
    tmp_path: Path, script: str, arguments: list[str]
) -> None:
    settings = {"AUTH_JWT_SECRET": "a secret of thirty-two bytes or more"}
    start = (f"scripts/{script}", *arguments)
    async with command(*start, folder=tmp_path, settings=settings) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode in (1, 2)
    assert f"scripts/{script}" in out.decode()
