"""Common faults in environment variables are repaired, or refused with the variable's name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analytics_service.settings import AnalyticsSettings
from chat_service.agent.models import choose_model
from chat_service.settings import ChatSettings
from daca_shared.domain import Misconfigured
from daca_shared.settings import ServiceSettings, set_no_proxy
from scripts.lib.settings import RunnerSettings

NO_ADDRESSES = {
    "a name": "somewhere.invalid",
    "another machine": "192.0.2.7",
    "half an address": "127.0.0",
    "a URL": "http://127.0.0.1",
    "one link's": "fe80::1%lo",
}
NO_BASE_URLS = {
    "no scheme": "localhost:11434/v1",
    "no host": "http:///v1",
    "another scheme": "ftp://localhost/v1",
    "a bad port": "http://localhost:99999/v1",
    "credentials": "http://user:hunter2@localhost:11434/v1",
    "a query": "http://localhost:11434/v1?api-version=1",
    "a fragment": "http://localhost:11434/v1#top",
    "a space": "http://localhost:11434/v1 http://localhost/v1",
}


def refusal(settings: type[ServiceSettings]) -> str:
    with pytest.raises(SystemExit) as exit_:
        settings.from_environment()
    return str(exit_.value)


MEANINGS = {
    "DACA_HOST": "The address to listen on, IPv4 or IPv6. "
    "See docs/security-guide.md before you change it.",
    "DACA_METRICS_HOST": "The address on which metrics can be read.",
}


@pytest.mark.parametrize("variable", MEANINGS)
@pytest.mark.parametrize("host", NO_ADDRESSES.values(), ids=NO_ADDRESSES)
def test_an_address_that_this_machine_cannot_listen_on_is_refused(
    environment: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    environment.setenv(variable, host)
    told = (
        f"  {variable}: must be an address of this machine, e.g. 127.0.0.1 ({MEANINGS[variable]})"
    )
    assert refusal(AnalyticsSettings).splitlines()[1:] == [told]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - what a container sets
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
    ],
)
def test_common_spellings_of_an_address_are_accepted(
    environment: pytest.MonkeyPatch, host: str, address: str
) -> None:
    environment.setenv("DACA_HOST", host)
    assert AnalyticsSettings.from_environment().host == address


@pytest.mark.parametrize("url", NO_BASE_URLS.values(), ids=NO_BASE_URLS)
def test_an_unusable_base_url_is_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("OPENAI_BASE_URL", url)
    told = refusal(ChatSettings)
    assert "OPENAI_BASE_URL: must be like http://localhost:11434/v1" in told
    assert "hunter2" not in told


@pytest.mark.parametrize("rest", ["", "/", "\n", "/chat/completions", "/chat/completions/"])
def test_common_forms_of_a_base_url_are_accepted(
    environment: pytest.MonkeyPatch, rest: str
) -> None:
    environment.setenv("OPENAI_BASE_URL", f"http://localhost:11434/v1{rest}")
    assert ChatSettings.from_environment().openai_base_url == "http://localhost:11434/v1"


@pytest.mark.parametrize(
    "variable", ["OPENAI_API_KEY", "GEMINI_API_KEY", "DAPR_API_TOKEN", "APP_API_TOKEN"]
)
@pytest.mark.parametrize("key", ["sk-1\nsk-2", "sk-\u201cquoted\u201d", "\ufeffsk-1"])
def test_a_key_that_no_header_can_hold_is_refused(
    environment: pytest.MonkeyPatch, variable: str, key: str
) -> None:
    environment.setenv(variable, key)
    told = refusal(ChatSettings)
    assert variable in told
    assert key not in told


def test_a_setting_that_is_nearly_one_is_reported_once(
    environment: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".env").write_text("AUTH_SECRET=s3cret\n")
    environment.setenv("CHAT_MODLE", "m")
    for _ in range(2):
        ChatSettings.from_environment()
    assert caplog.messages == [
        "AUTH_SECRET has no effect: is AUTH_JWT_SECRET meant?",
        "CHAT_MODLE has no effect: is CHAT_MODEL meant?",
    ]


def test_another_services_setting_is_not_reported(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    every = (AnalyticsSettings, ChatSettings, RunnerSettings)
    names = {str(field.alias) for each in every for field in each.model_fields.values()}
    for name in {*names, "DACA_ENV_FILE", "DACA_STARTED_IN"}:
        environment.setenv(name, "")
    for each in every:
        each.from_environment()
    assert caplog.messages == []


def test_blanks_around_a_value_are_stripped(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPENAI_API_KEY", "sk-1\r\n")
    environment.setenv("CHAT_HTTP_PORT", " 8080 ")
    environment.setenv("CHAT_MODEL", "\tllama3.2\n")
    settings = ChatSettings.from_environment()
    assert settings.openai_api_key
    assert settings.openai_api_key.get_secret_value() == "sk-1"
    assert (settings.http_port, settings.model) == (8080, "llama3.2")


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy"])
@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1:8003", "[::1]:8003"])
def test_this_machine_is_reached_without_a_proxy(
    environment: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    environment.setenv(variable, "http://proxy.example:3128")
    settings = ChatSettings.from_environment()
    assert settings.proxy_for(f"http://{host}/v1") is None
    assert settings.proxy_for(f"https://{host}/v1") is None


def test_a_proxy_without_a_scheme_is_accepted(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "proxy.example:3128")
    proxy = ChatSettings.from_environment().proxy_for("http://model.example/v1")
    assert proxy == "http://proxy.example:3128"


def test_a_proxy_that_cannot_be_used_is_refused_by_name(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(
        Misconfigured, match=r"HTTPS_PROXY or ALL_PROXY: .* model\.example in NO_PROXY"
    ):
        ChatSettings.from_environment().proxy_for("https://model.example/v1")


@pytest.mark.parametrize("host", ["", "https://model.example/v1"])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hunter2/x@proxy.example:3128",  # the slash should be %2F
        "user:hunter2",
        "http://proxy.example:hunter2",
        "gopher://user:hunter2@proxy.example",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    environment: pytest.MonkeyPatch, host: str, proxy: str
) -> None:
    for name, value in (
        ("OPENAI_API_KEY", "sk-1"),
        ("OPENAI_BASE_URL", host),
        ("CHAT_MODEL", "one"),
        ("HTTPS_PROXY", proxy),
    ):
        environment.setenv(name, value)
    with pytest.raises(Misconfigured, match=r"HTTPS_PROXY.* ALL_PROXY: ") as told:
        choose_model(ChatSettings.from_environment())
    assert "hunter2" not in str(told.value)


def test_a_socks_proxy_in_the_environment_breaks_no_chat() -> None:
    # In a new process, because the SDK sets up its tracing only once.
    code = (
        "import agents, os\n"
        "from chat_service.agent.agent import ChatAgent\n"
        "from chat_service.agent.models import choose_model\n"
        "from chat_service.settings import ChatSettings\n"
        "for key in ('', 'sk-1'):\n"
        "    os.environ['OPENAI_API_KEY'] = key\n"
        "    ChatAgent(choose_model(ChatSettings()))\n"
        "    with agents.trace('a chat'): pass"
    )
    environment = os.environ | {"all_proxy": "socks5://127.0.0.1:1080"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_certificates_that_cannot_be_used_are_refused_by_name(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("OPENAI_API_KEY", "sk-1")
    environment.setenv("SSL_CERT_FILE", str(tmp_path / "gone"))
    with pytest.raises(Misconfigured, match=r"SSL_CERT_FILE or SSL_CERT_DIR: .*No such file"):
        choose_model(ChatSettings.from_environment())


@pytest.mark.parametrize(
    ("excepted", "then"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("a.example", "a.example,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_no_library_uses_a_proxy_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, excepted: str, then: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("no_proxy", excepted)
    monkeypatch.setenv("NO_PROXY", excepted)
    set_no_proxy()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (then, then)
