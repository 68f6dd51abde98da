"""The settings of the chat service."""

import re
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import pydantic
from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, PlainValidator, SecretStr
from pydantic_settings import NoDecode

from daca_shared.addresses import THIS_MACHINE, host_in
from daca_shared.domain import Misconfigured
from daca_shared.settings import MetricsPort, Port, ServiceSettings, Token


def _check_name(host: str) -> str:
    name = host_in(host)
    is_name = name and (not isinstance(name, str) or re.fullmatch(r"\w[\w.-]*", name, re.ASCII))
    if host != "*" and not is_name:
        raise ValueError("must be names of hosts, like chat.example.com, or *")
    return host


def _check_base_url(value: str) -> str:
    with suppress(ValueError):
        url = urlsplit(value)
        is_plain = "@" not in url.netloc and {"?", "#", " "}.isdisjoint(value)
        if is_plain and url.scheme in ("http", "https") and url.hostname and url.port != 0:
            return value.rstrip("/").removesuffix("/chat/completions")
    problem = "must be like http://localhost:11434/v1, without credentials, query or fragment"
    raise ValueError(problem)


def _check_origin(origin: str) -> str:
    # Browsers send it in lower case, and without the slash that an address bar shows.
    origin = origin.rstrip("/").lower()
    with suppress(ValueError):
        url = urlsplit(origin)
        is_default = (url.scheme, url.port) in (("http", 80), ("https", 443))  # never sent
        if re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin) and not is_default:
            return origin
    raise ValueError("must be origins as browsers send them, like https://chat.example.com, or *")


def _check_address(value: str) -> str:
    with suppress(ValueError):
        if re.match("(dns|unix|ipv4|ipv6):.", value):  # gRPC's own schemes
            return value
        url = urlsplit(f"//{value}")
        if value.isascii() and host_in(value) and url.port and url.netloc == value:
            return value
    raise ValueError("must be a host and a port, like 127.0.0.1:8001")


def _parse_rates(value: str) -> tuple[RateLimitItem, ...]:
    with suppress(ValueError):
        rates = tuple(parse_many(value))
        if all(rate.amount for rate in rates):
            return rates
    raise ValueError("must be like 60/minute or 60/minute;1000/day")


type _Many[T] = Annotated[
    tuple[T, ...],
    NoDecode,
    BeforeValidator(lambda text: [part.strip() for part in text.removesuffix(",").split(",")]),
]
type _Rates = Annotated[tuple[RateLimitItem, ...], NoDecode, PlainValidator(_parse_rates)]
type _Origin = Annotated[str, AfterValidator(_check_origin)]
type _Address = Annotated[str, AfterValidator(_check_address)]
type _Name = Annotated[str, AfterValidator(_check_name)]
type _BaseUrl = Annotated[str, AfterValidator(_check_base_url)]

_MIN_SECRET_BYTES = 32  # RFC 7518 for HS256


class ChatSettings(ServiceSettings):
    database_file = "chat.db"

    http_port: Port = Field(8000, alias="CHAT_HTTP_PORT")
    """The HTTP gateway's port; 0 takes a free one."""
    grpc_port: Port = Field(8002, alias="CHAT_GRPC_PORT")
    """The gRPC port, which is the Dapr app port; 0 takes a free one."""
    metrics_port: MetricsPort = Field(9464, alias="CHAT_METRICS_PORT")
    """The port of chat's metrics; 0 takes a free one, `off` turns them off."""
    cors_origins: _Many[_Origin] = Field(("http://localhost:3000",), alias="CHAT_CORS_ORIGINS")
    """Which web origins may call the gateway, separated by commas."""
    trusted_hosts: _Many[_Name] = Field((), alias="CHAT_TRUSTED_HOSTS")
    """Which `Host`s a request may name, besides `localhost`, `127.0.0.1`, `::1` and `DACA_HOST` (if
    that is `0.0.0.0` or `::`, any address): names, separated by commas, or `*` for anything."""
    root_path: str = Field("", pattern="^(/[^/?#]+)*$", alias="CHAT_ROOT_PATH")
    """The prefix of all paths, like `/daca`, that a proxy passes on; a prefix that it strips needs
    no setting."""
    timeout_s: float = Field(60, gt=0, le=600, alias="CHAT_TIMEOUT_S")
    """How long one chat may take. A caller's own deadline can only shorten it."""
    max_concurrent: int = Field(2000, ge=1, alias="CHAT_MAX_CONCURRENT")
    """How many chats may run at once. Each needs some 160 KB of memory."""
    max_text_length: int = Field(8000, ge=1, le=1_000_000, alias="CHAT_MAX_TEXT_LENGTH")
    """The longest message text, in characters. It must fit into a request's body of 1 MB."""
    max_history_length: int = Field(60_000, ge=0, alias="CHAT_MAX_HISTORY_LENGTH")
    """How much of a conversation the model is shown, in characters: the latest whole turns."""
    max_reply_length: int = Field(100_000, ge=1, le=1_000_000, alias="CHAT_MAX_REPLY_LENGTH")
    """The longest reply, in characters, with its tool calls and what is kept of their results; a
    longer one is an error."""

    jwks_url: HttpUrl | None = Field(None, alias="AUTH_JWKS_URL")
    """The URL of the public keys (JWKS) for callers' bearer tokens."""
    jwt_secret: SecretStr | None = Field(None, alias="AUTH_JWT_SECRET")
    """Instead of `AUTH_JWKS_URL`, the secret that signs bearer tokens (HS256), of 32 bytes or more.
    With neither, anyone may claim any user id."""
    jwt_audience: str = Field("daca-chat", alias="AUTH_JWT_AUDIENCE")
    """The audience (`aud`) that a token must have."""
    jwt_issuer: str | None = Field(None, alias="AUTH_JWT_ISSUER")
    """The issuer (`iss`) that a token must have; any unless set."""
    rate_limit_user: _Rates = Field((), alias="CHAT_RATE_LIMIT_USER")
    """How many messages a user may send, like `60/minute` or `60/minute;1000/day`."""
    rate_limit_address: _Rates = Field((), alias="CHAT_RATE_LIMIT_ADDRESS")
    """How many messages may come from one address (IPv6: one /64) over HTTP."""
    trusted_proxies: _Many[pydantic.IPvAnyNetwork] = Field((), alias="CHAT_TRUSTED_PROXIES")
    """Proxies whose `X-Forwarded-For` is trusted: addresses or networks, separated by commas."""

    analytics_app_id: str = Field("analytics-service", pattern="^[!-~]+$", alias="ANALYTICS_APP_ID")
    """The Dapr app id of the analytics service."""
    analytics_address: _Address = Field("127.0.0.1:8001", alias="ANALYTICS_ADDRESS")
    """The address of the analytics service, used without a sidecar."""

    model: str | None = Field(None, alias="CHAT_MODEL")
    """The model's name; otherwise `gpt-4o` for OpenAI, `gemini-2.5-flash` for Gemini. Required with
    `OPENAI_BASE_URL`."""
    model_timeout_s: float = Field(30, gt=0, le=600, alias="CHAT_MODEL_TIMEOUT_S")
    """How long connecting to the model, and each part of a streamed reply, may take; a reply that
    isn't streamed may take all of `CHAT_TIMEOUT_S`."""
    openai_api_key: Token | None = Field(None, alias="OPENAI_API_KEY")
    """The key for OpenAI, or for the server at `OPENAI_BASE_URL`."""
    openai_base_url: _BaseUrl | None = Field(None, alias="OPENAI_BASE_URL")
    """A server that speaks OpenAI's Chat Completions API, like `http://localhost:11434/v1`."""
    openai_org_id: str | None = Field(None, pattern="^[!-~]+$", alias="OPENAI_ORG_ID")
    """The organization at OpenAI that is billed, if the key belongs to several."""
    openai_project_id: str | None = Field(None, pattern="^[!-~]+$", alias="OPENAI_PROJECT_ID")
    """The project at OpenAI that is billed."""
    gemini_api_key: Token | None = Field(None, alias="GEMINI_API_KEY")
    """The key for Google Gemini."""

    agent: str | None = Field(None, alias="CHAT_AGENT")
    """A function that turns chat's agent into the one to use, like `examples.guardrails:extend`."""
    mcp_servers: SecretStr | None = Field(None, alias="CHAT_MCP_SERVERS")
    """MCP servers whose tools the agent has, in JSON: `{"dice": {"url": "http://…/mcp"}}`, or with
    `command`, `args` and `env` instead."""

    @pydantic.field_validator("jwt_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr, others: pydantic.ValidationInfo) -> SecretStr:
        if others.data.get("jwks_url"):
            raise ValueError("can't be set together with AUTH_JWKS_URL")
        if len(secret.get_secret_value().encode()) < _MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {_MIN_SECRET_BYTES} bytes")
        return secret

    def secrets(self) -> list[str]:
        """Also the long words in MCP servers' headers and variables: an error may quote a key."""
        setting = self.mcp_servers.get_secret_value() if self.mcp_servers else ""
        found = re.findall(r'"(?:headers|env)"\s*:\s*{([^}]*)}', setting)
        return [*super().secrets(), *re.findall(r'[^\s"]{16,}', " ".join(found))]

    def proxy_for(self, url: str) -> str | None:
        """The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name for `url`;
        none for this machine itself. Raises `Misconfigured` if the proxy can't be used."""
        parts = urlsplit(url)
        if parts.hostname in THIS_MACHINE or proxy_bypass(parts.netloc):
            return None
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if not proxy:
            return None
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        with suppress(ValueError):  # a port that is no number, maybe a password with a `/` in it
            found = urlsplit(proxy)
            if found.scheme in ("http", "https") and found.hostname and found.port != 0:
                return proxy
        raise Misconfigured(
            f"{parts.scheme.upper()}_PROXY or ALL_PROXY: only an HTTP proxy can be used, like "
            f"http://proxy:3128; name one, or except {parts.hostname} in NO_PROXY"
        )
