"""Each process gets only its own part of the environment."""

import socket
from pathlib import Path
from unittest.mock import patch

import pytest

from scripts.lib.environments import SERVICES, kind_of, share, sidecar_environment
from scripts.lib.project import ROOT, StackError
from scripts.lib.settings import RunnerSettings
from scripts.secure import Security
from scripts.stack import Stack
from scripts.tracing import Viewer

SECRETS = {
    "OPENAI_API_KEY": "sk-1",
    "GEMINI_API_KEY": "g-1",
    "AUTH_JWT_SECRET": "s" * 32,
    "DATABASE_URL": "postgresql://daca:hunter2@localhost/daca",
    "APP_API_TOKEN": "app-token",
    "DAPR_API_TOKEN": "sidecar-token",
}
ORDINARY = {"PATH": "/bin", "HOME": "/home/me", "LANG": "C.UTF-8", "LC_TIME": "de_DE"}
# Not needed by any process here, or fatal to Python.
OTHERS = {"AWS_SECRET_ACCESS_KEY": "a-1", "PYTHONPATH": "/evil", "PYTHONHOME": "/evil"}


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    environment = ORDINARY | OTHERS | SECRETS
    return Stack(ROOT / "dapr.yaml", daprd=Path("daprd"), log_dir=tmp_path, environment=environment)


def secrets_of(environment: dict[str, str]) -> set[str]:
    assert ORDINARY.items() <= environment.items()
    assert not environment.keys() & OTHERS.keys()
    return set(environment.keys() & SECRETS.keys())


def test_each_app_has_its_own_secrets(stack: Stack) -> None:
    chat, analytics = stack.app("chat_service"), stack.app("analytics_service")
    assert chat
    assert analytics
    assert secrets_of(chat.environment) == set(SECRETS)
    of_both = {"DATABASE_URL", "APP_API_TOKEN", "DAPR_API_TOKEN"}
    assert secrets_of(analytics.environment) == of_both


def test_a_sidecar_has_the_tokens_only(stack: Stack) -> None:
    for service in stack.services.values():
        if service.is_sidecar:
            assert secrets_of(service.environment) == {"APP_API_TOKEN", "DAPR_API_TOKEN"}


def test_auxiliary_processes_get_no_secrets(stack: Stack, tmp_path: Path) -> None:
    stack.add_local_model(1)
    settings = RunnerSettings.from_environment()
    security = Security(
        Path("sentry"), config_dir=tmp_path, data_dir=tmp_path, port=1, health_port=2,
        environment=stack.environment,
    )  # fmt: skip
    viewer = Viewer(
        "jaeger", Path("jaeger"), log_dir=tmp_path, settings=settings,
        environment=stack.environment,
    )  # fmt: skip
    for service in (stack.services["local-model"], security.sentry, viewer.service):
        assert secrets_of(service.environment) == set(), service.name


def test_chat_shows_a_local_model_its_own_key_not_the_users(stack: Stack) -> None:
    chat = stack.app("chat_service")
    assert chat
    stack.add_local_model(1)
    key = stack.services["local-model"].environment["LOCAL_MODEL_KEY"]
    assert chat.environment["OPENAI_API_KEY"] == key != SECRETS["OPENAI_API_KEY"]


def test_other_peoples_apps_get_all_but_our_variables() -> None:
    found = share(ORDINARY | OTHERS | SECRETS | {"CHAT_HTTP_PORT": "1"}, "")
    # Its own sidecar may require DAPR_API_TOKEN, and sends APP_API_TOKEN.
    tokens = {name: SECRETS[name] for name in ("APP_API_TOKEN", "DAPR_API_TOKEN")}
    assert found == ORDINARY | OTHERS | tokens


def test_a_variable_of_one_app_is_not_passed_to_the_other(tmp_path: Path) -> None:
    environment = {"CHAT_HTTP_PORT": "8080", "ANALYTICS_METRICS_PORT": "9999"}
    stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)
    ports = {app.name: app.ports for app in stack.apps}
    assert ports == {
        "chat-service": {"HTTP": 8080, "gRPC": 8002, "metrics": 9464},
        "analytics-service": {"gRPC": 8001, "metrics": 9999},
    }
    for app in stack.apps:
        mine, other = ("CHAT", "ANALYTICS") if "HTTP" in app.ports else ("ANALYTICS", "CHAT")
        assert f"{mine}_METRICS_PORT" in app.environment
        assert f"{other}_METRICS_PORT" not in app.environment


def test_the_sidecar_gets_a_port_that_is_set_in_the_environment(tmp_path: Path) -> None:
    environment = {"CHAT_GRPC_PORT": "9002", "DACA_HOST": "[::1]"}
    stack = Stack(
        ROOT / "dapr.yaml", daprd=Path("daprd"), log_dir=tmp_path, environment=environment
    )
    command = stack.services["chat-service-sidecar"].command
    assert command[command.index("--app-port") + 1] == "9002"
    assert command[command.index("--app-channel-address") + 1] == "::1"


def test_without_sidecars_chat_finds_analytics_wherever_it_is(tmp_path: Path) -> None:
    environment = {"ANALYTICS_GRPC_PORT": "9001", "DACA_HOST": "::", "DAPR_GRPC_PORT": "50001"}
    stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)
    chat = stack.services["chat-service"].environment
    assert chat["ANALYTICS_ADDRESS"] == "[::1]:9001"
    assert "DAPR_GRPC_PORT" not in chat


@pytest.mark.parametrize("unset", ["DAPR_GRPC_PORT=1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://other"])
def test_variables_withheld_from_an_app_are_not_read_from_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: str
) -> None:
    name, _, value = unset.partition("=")
    environment = {name: value, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}  # as with --zipkin
    stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(unset)
    for app in stack.apps:
        with patch.dict("os.environ", app.environment, clear=True):
            found = SERVICES[kind_of(app.command)].from_environment()
        assert (found.dapr_grpc_port, found.otlp_endpoint) == (None, None)


def test_port_zero_is_replaced_by_a_known_free_port(tmp_path: Path) -> None:
    environment = {"CHAT_HTTP_PORT": "0", "CHAT_METRICS_PORT": "off"}
    stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)
    chat = stack.services["chat-service"]
    assert chat.ports["HTTP"] > 0
    assert chat.environment["CHAT_HTTP_PORT"] == str(chat.ports["HTTP"])
    assert "metrics" not in chat.ports


def test_a_metrics_port_is_checked_at_the_metrics_host(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        environment = {"DACA_METRICS_HOST": "::1", "CHAT_METRICS_PORT": str(port)}
        stack = Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)
        assert ("metrics", "::1", port) in stack.services["chat-service"].addresses()
        with pytest.raises(StackError, match=rf"port {port} \(chat-service, metrics\)"):
            stack.check_ports()


def test_a_bad_setting_is_named_before_anything_runs(tmp_path: Path) -> None:
    environment = {"CHAT_HTTP_PORT": "eighty", "CHAT_TIMEOUT_S": "soon"}
    with pytest.raises(StackError, match=r"(?s)CHAT_HTTP_PORT.*CHAT_TIMEOUT_S"):
        Stack(ROOT / "dapr.yaml", daprd=None, log_dir=tmp_path, environment=environment)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_local_processes_are_reached_without_a_proxy(variable: str) -> None:
    given = {
        variable: "http://proxy.example:3128",
        "no_proxy": "a.example",
        "NO_PROXY": "b.example",
    }
    for kind in ("chat_service", "analytics_service", "daprd", "zipkin", ""):
        found = share(given, kind)
        assert found["no_proxy"] == "a.example,b.example,localhost,127.0.0.1,::1"
        assert found["NO_PROXY"] == found["no_proxy"]


def test_a_sidecars_threads_can_be_chosen() -> None:
    assert sidecar_environment({})["GOMAXPROCS"] == "1"
    assert sidecar_environment({"GOMAXPROCS": "4"})["GOMAXPROCS"] == "4"
