"""What the settings of both services have in common; the only readers of the environment."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import pydantic
from opentelemetry.util.re import parse_env_headers
from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")

_is_secret = re.compile("pass|secret|token|key|sig", re.IGNORECASE).search

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Sampler = Literal["parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"]
Port = Annotated[int, Field(ge=0, le=65535)]
"""A port, or 0 for a free one."""
MetricsPort = Annotated[Port | None, BeforeValidator(lambda port: None if port == "off" else port)]
"""A port, 0 for a free one, or `off`."""


def _find_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _check_host(host: str) -> str:
    bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        socket.inet_pton(family, bare)  # binding would also look names up
        with socket.socket(family) as listener:
            listener.bind((bare, 0))
    except OSError:
        raise ValueError("must be an address of this machine, e.g. 127.0.0.1") from None
    return bare


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("has a character that no header can hold")
    return token


Host = Annotated[str, AfterValidator(_check_host)]
"""An address to listen on, without the brackets that an IPv6 one has in URLs."""
Token = Annotated[SecretStr, AfterValidator(_check_token)]
"""A secret that goes into a header as it is."""


def _passwords_in(url: str) -> Iterator[str]:
    """As they are written, and decoded."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme:
            query = [pair.partition("=") for pair in parts.query.split("&")]
            named = [value for name, _, value in query if _is_secret(name)]
            for password in (parts.password or "", *named):
                yield from (password, unquote(password))


class PortTaken(Exception):
    """Another process listens on the port."""

    def __init__(self, host: str, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} on {host} is taken (or may not be used); "
            f"stop what listens there, or set {variable} to another"
        )


class ServiceSettings(BaseSettings):
    """Settings from the environment, or else from `.env` in the working folder."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        validate_default=False,
        use_attribute_docstrings=True,  # scripts/gen_docs.sh tells people what they say
    )

    database_file: ClassVar[str]

    data_dir: Annotated[Path, AfterValidator(_find_home)] = Field(
        Path("data"), alias="DACA_DATA_DIR"
    )
    """Where each service keeps its database: for one process of each at a time."""
    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    """A PostgreSQL to keep everything in instead, for several replicas of each service, like
    `postgresql://user:password@localhost:5432/daca`."""
    host: Host = Field("127.0.0.1", alias="DACA_HOST")
    """The address to listen on, IPv4 or IPv6; who can then do what, docs/security-guide.md says."""
    log_level: Level = Field("INFO", alias="DACA_LOG_LEVEL")
    """The least severe log line to print."""
    log_user_ids: bool = Field(False, alias="DACA_LOG_USER_IDS")
    """Whether log lines have user ids as they are, instead of a hash."""
    metrics_host: Host = Field("127.0.0.1", alias="DACA_METRICS_HOST")
    """The address on which metrics can be read."""
    shutdown_grace_s: float = Field(10, gt=0, le=600, alias="DACA_SHUTDOWN_GRACE_S")
    """How long requests in flight may take to finish after SIGTERM."""
    drain_s: float = Field(0.3, ge=0, le=600, alias="DACA_DRAIN_S")
    """How long to go on serving after SIGTERM while health already says no."""
    dapr_grpc_port: int | None = Field(None, ge=1, le=65535, alias="DAPR_GRPC_PORT")
    """The service's own sidecar's gRPC port; without one, chat dials analytics directly."""
    dapr_api_token: Token | None = Field(None, alias="DAPR_API_TOKEN")
    """The token that the sidecar wants to see, if it wants one."""
    app_api_token: Token | None = Field(None, alias="APP_API_TOKEN")
    """The token that callers of the gRPC port, the sidecar too, must show as `dapr-api-token`;
    health needs none."""

    otlp_endpoint: HttpUrl | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where spans go, by OTLP over HTTP, like `http://localhost:4318`. Without it or
    `OTEL_EXPORTER_ZIPKIN_ENDPOINT` nothing is traced."""
    otlp_headers: SecretStr | None = Field(None, alias="OTEL_EXPORTER_OTLP_HEADERS")
    """What their receiver wants to see: `name=value`, separated by commas."""
    zipkin_endpoint: HttpUrl | None = Field(None, alias="OTEL_EXPORTER_ZIPKIN_ENDPOINT")
    """Where they go instead, as Zipkin takes them, like `http://localhost:9411/api/v2/spans`."""
    sampler: Sampler = Field("parentbased_always_on", alias="OTEL_TRACES_SAMPLER")
    """Which requests are traced that come without a decision of their caller's."""
    sampler_arg: float = Field(1, ge=0, le=1, alias="OTEL_TRACES_SAMPLER_ARG")
    """Which part of these `parentbased_traceidratio` traces."""
    trace_content: bool = Field(False, alias="DACA_TRACE_CONTENT")
    """Whether the texts of messages and replies may be in spans."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _trim(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Without what is around a value, a secret file's line feed say. An empty one is unset."""
        found = {name: v.strip() if isinstance(v, str) else v for name, v in values.items()}
        return {name: value for name, value in found.items() if value != ""}

    @pydantic.field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr) -> SecretStr:
        with suppress(ValueError):
            parts = urlsplit(url.get_secret_value())
            hosts = parts.netloc.rpartition("@")[2].split(",")
            # A password that is not percent-encoded may end them.
            are_ports = all(urlsplit(f"//{host}").port != 0 for host in hosts)
            if parts.scheme in _DATABASE_SCHEMES and are_ports and not parts.fragment:
                return url
        raise ValueError("must be like postgresql://user:password@host:5432/database")

    @pydantic.field_validator("otlp_headers")
    @classmethod
    def _check_headers(cls, headers: SecretStr) -> SecretStr:
        if not all("=" in part for part in headers.get_secret_value().split(",")):
            raise ValueError("must be like name=value,name=value")
        return headers

    @pydantic.field_validator("zipkin_endpoint")
    @classmethod
    def _check_endpoints(cls, endpoint: HttpUrl, others: pydantic.ValidationInfo) -> HttpUrl:
        if others.data.get("otlp_endpoint"):
            raise ValueError("can't be set together with OTEL_EXPORTER_OTLP_ENDPOINT")
        return endpoint

    @property
    def database(self) -> Path | SecretStr:
        """Where the service keeps what it knows: a SQLite file, or the URL of a PostgreSQL."""
        return self.database_url or self.data_dir / self.database_file

    @property
    def otlp_headers_by_name(self) -> dict[str, str]:
        """The headers, their values decoded as OpenTelemetry's rules say."""
        value = self.otlp_headers.get_secret_value() if self.otlp_headers else ""
        return dict(parse_env_headers(value, liberal=True))

    @property
    def sampling_ratio(self) -> float:
        """Which part of the requests to trace where the caller has not decided."""
        ratios = {"parentbased_always_on": 1.0, "parentbased_always_off": 0.0}
        return ratios.get(self.sampler, self.sampler_arg)

    def secrets(self) -> list[str]:
        """Every secret that is set, for the log to leave out."""
        found = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        found += self.otlp_headers_by_name.values()
        urls = [str(value) for _, value in self if isinstance(value, HttpUrl)]
        for url in (*found, *urls, *getproxies().values()):
            # A library may quote the password without the URL around it.
            found += _passwords_in(url)
        return [*dict.fromkeys(secret for secret in found if secret)]

    @classmethod
    def from_environment(cls, **more: str) -> Self:
        """The settings, where `more` outranks what is found. Bad ones end the program, by name."""
        try:
            # scripts/run.sh, which has read it, says "" to its apps: not all in it is for each.
            file = os.environ.get("DACA_ENV_FILE", ".env")
            return cls.model_validate({"_env_file": file, **more})
        except OSError as error:
            sys.exit(f"Bad settings: .env: {error.strerror}")
        except pydantic.ValidationError as error:
            # Values stay out of the message: one of them may be a key.
            problems = [
                f"  {(*e['loc'], '.env')[0]}: {e['msg'].removeprefix('Value error, ')}"
                for e in error.errors()
            ]
            sys.exit("Bad settings in the environment or in .env:\n" + "\n".join(problems))
