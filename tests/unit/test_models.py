"""Which model the settings select, and how it is called."""

from pathlib import Path
from typing import Any

import agents
import pytest
from openai import AsyncOpenAI

from daca_shared.domain import Misconfigured, Unavailable
from tests.hosts.conftest import KEY, closing
from tests.model_server import ModelServer
from tests.unit.test_agent import Choose, ask, choose, server

__all__ = ["choose", "server"]


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize(
    ("no_proxy", "proxied"), [("", True), ("model.invalid", False), ("model.invalid:81", False)]
)
async def test_a_proxy_is_used_for_hosts_that_are_not_excepted(
    server: ModelServer, choose: Choose, variable: str, no_proxy: str, proxied: bool
) -> None:
    proxy = {variable: server.url.removesuffix("/v1"), "no_proxy": no_proxy}
    model = choose(OPENAI_BASE_URL="http://model.invalid:81/v1", CHAT_MODEL="m", **proxy)
    if proxied:
        assert "alice" in await ask(model)
        assert server.requests[0].path == "http://model.invalid:81/v1/chat/completions"
    else:
        with pytest.raises(Unavailable):
            await ask(model)
        assert server.requests == []
    await model.close()


@pytest.mark.parametrize(
    ("variables", "name", "host"),
    [
        ({"OPENAI_API_KEY": KEY}, "gpt-4o", "api.openai.com"),
        ({"OPENAI_API_KEY": KEY, "CHAT_MODEL": "m"}, "m", "api.openai.com"),
        (
            {"GEMINI_API_KEY": KEY},
            "gemini-2.5-flash",
            "generativelanguage.googleapis.com",
        ),
        (
            {"GEMINI_API_KEY": KEY, "CHAT_MODEL": "m"},
            "m",
            "generativelanguage.googleapis.com",
        ),
        ({"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": "g"}, "gpt-4o", "api.openai.com"),
        ({"OPENAI_BASE_URL": "http://local/v1", "CHAT_MODEL": "m"}, "m", "local"),
        (
            {
                "OPENAI_BASE_URL": "http://local/v1",
                "OPENAI_API_KEY": KEY,
                "GEMINI_API_KEY": "g",
                "CHAT_MODEL": "m",
            },
            "m",
            "local",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
async def test_the_first_setting_that_is_set_chooses_the_model(
    choose: Choose, variables: dict[str, str], name: str, host: str
) -> None:
    model = choose(CHAT_MODEL_TIMEOUT_S="7", **variables)
    client = model.client
    assert client
    assert (model.name, client.base_url.host) == (name, host)
    assert isinstance(model.model, agents.OpenAIResponsesModel) == (host == "api.openai.com")
    # `test_agent` checks the timeouts and retries of our own client.
    if isinstance(client, AsyncOpenAI):
        assert (client.timeout, client.max_retries) == (7, 0)
    await model.close()


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENAI_API_KEY": KEY},
        {"GEMINI_API_KEY": KEY},
        {"OPENAI_BASE_URL": "http://local/v1", "OPENAI_API_KEY": KEY, "CHAT_MODEL": "m"},
    ],
    ids="+".join,
)
async def test_each_host_gets_the_key_of_an_env_file_and_one_retry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, choose: Choose, variables: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (f"{name}={value}\n" for name, value in variables.items())
    (tmp_path / ".env").write_text("".join(lines))
    async with closing(choose()) as model:
        assert model.client
        assert model.client.api_key == KEY
        assert model.settings.retry
        assert model.settings.retry.max_retries == 1


@pytest.mark.parametrize("variables", [{}, {"CHAT_MODEL": "m"}])
def test_without_a_host_the_model_is_offline(choose: Choose, variables: dict[str, Any]) -> None:
    assert choose(**variables).name == "offline"


def test_a_base_url_without_a_model_names_the_missing_variable(choose: Choose) -> None:
    with pytest.raises(Misconfigured, match="CHAT_MODEL"):
        choose(OPENAI_BASE_URL="http://local/v1")


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_openai_setting_counts_as_unset(choose: Choose, value: str) -> None:
    others = dict.fromkeys(("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"), value)
    client = choose(OPENAI_API_KEY=KEY, **others).client
    assert isinstance(client, AsyncOpenAI)
    assert client.base_url == "https://api.openai.com/v1/"
    assert whose(client) == {}


def test_openai_gets_the_organization_and_the_project(choose: Choose) -> None:
    client = choose(OPENAI_API_KEY=KEY, OPENAI_ORG_ID=" org-1\n", OPENAI_PROJECT_ID="p").client
    assert isinstance(client, AsyncOpenAI)
    assert whose(client) == {"OpenAI-Organization": "org-1", "OpenAI-Project": "p"}


def whose(client: AsyncOpenAI) -> dict[str, str]:
    """The headers that a client sends; the SDK uses such a copy of it."""
    headers = client.with_options(max_retries=0).default_headers
    sent = {name: value for name, value in headers.items() if isinstance(value, str)}
    return {n: v for n, v in sent.items() if n in ("OpenAI-Organization", "OpenAI-Project")}
