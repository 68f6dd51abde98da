"""What the settings of both services share. Only settings read the environment."""

import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import pydantic
from dotenv.parser import parse_stream
from opentelemetry.util.re import parse_env_headers
from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from daca_shared.addresses import THIS_MACHINE, own_address, passwords_in
from daca_shared.misspelt import warn_of_misspelt

_FOREIGN = "OTEL_PROPAGATORS OTEL_PYTHON_CONTEXT PROMETHEUS_MULTIPROC_DIR prometheus_multiproc_dir"
_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")

Sampler = Literal[
    "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
    "always_on", "always_off", "traceidratio",
]  # fmt: skip
Port = Annotated[int, Field(ge=0, le=65535)]
"""A port, or 0 for a free one."""
MetricsPort = Annotated[Port | None, BeforeValidator(lambda port: None if port == "off" else port)]
"""A port, 0 for a free one, or `off`."""


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("has a character that no header can hold")
    return token


Folder = Annotated[Path, AfterValidator(_expand_home)]
Host = Annotated[str, AfterValidator(own_address)]
"""An address to listen on, without the brackets that an IPv6 one has in URLs."""
Token = Annotated[SecretStr, AfterValidator(_check_token)]
"""A secret that goes into a header as it is."""


def ignore_foreign_variables() -> None:
    """Before the libraries are imported: ignore what, set perhaps for a whole cluster, would end us
    then, or have metrics write files. We use W3C's trace headers, as Dapr does."""
    for name in _FOREIGN.split():
        os.environ.pop(name, None)
    if key_log := os.environ.get("SSLKEYLOGFILE"):
        try:
            Path(key_log).open("ab").close()
        except OSError as error:
            sys.exit(f"Bad settings in the environment: SSLKEYLOGFILE: {error.strerror}")


def set_no_proxy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep libraries from using the environment's proxies for what runs on this machine."""
    # Some programs read one of these variables, some the other.
    lists = [environment.get(name, "").split(",") for name in ("no_proxy", "NO_PROXY")]
    hosts = dict.fromkeys(host.strip() for host in (*lists[0], *lists[1], *THIS_MACHINE))
    excepted = "*" if "*" in hosts else ",".join(filter(None, hosts))
    environment["no_proxy"] = environment["NO_PROXY"] = excepted


def _names_in(file: str) -> list[str]:
    """The names that the env file sets. Ends the program if a line is neither `NAME=value` nor a
    bare `NAME` that the environment sets. Such a line would be skipped, and its setting, maybe a
    secret, lost. Raises `OSError` if it is a folder or a broken link."""
    if not os.path.lexists(file) or Path(file).is_fifo():  # a FIFO could be read only once
        return []
    names = []
    with suppress(UnicodeDecodeError):  # which is reported when the settings are read
        for line in parse_stream(StringIO(Path(file).read_text("utf-8"))):
            is_bare = line.key and line.value is None and line.key not in os.environ
            if line.error or is_bare or "\0" in line.original.string:
                sys.exit(f"Bad settings: .env: line {line.original.line} is not like NAME=value")
            names.append(line.key or "")
    return names


class ServiceSettings(BaseSettings):
    """Settings from the environment, or else from `.env` in the working folder."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        case_sensitive=True,  # as for the scripts, and all other programs
        extra="ignore",
        validate_default=False,
        use_attribute_docstrings=True,  # scripts/gen_docs.sh makes documentation of them
    )

    database_file: ClassVar[str]

    data_dir: Folder = Field(Path("data"), alias="DACA_DATA_DIR")
    """The folder of each service's database, for one process of each service at a time."""
    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    """A PostgreSQL to use instead, which allows several replicas of each service, like
    `postgresql://user:password@localhost:5432/daca`."""
    host: Host = Field("127.0.0.1", alias="DACA_HOST")
    """The address to listen on, IPv4 or IPv6. See docs/security-guide.md before you change it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="DACA_LOG_LEVEL")
    """The least severe log line to print."""
    log_user_ids: bool = Field(False, alias="DACA_LOG_USER_IDS")
    """Whether log lines have user ids as they are, instead of a hash."""
    metrics_host: Host = Field("127.0.0.1", alias="DACA_METRICS_HOST")
    """The address on which metrics can be read."""
    shutdown_grace_s: float = Field(10, gt=0, le=600, alias="DACA_SHUTDOWN_GRACE_S")
    """How long requests in flight may take to finish after SIGTERM and `DACA_DRAIN_S`."""
    drain_s: float = Field(0.3, ge=0, le=600, alias="DACA_DRAIN_S")
    """How long to go on serving after SIGTERM while health checks already fail."""
    dapr_grpc_port: int | None = Field(None, ge=1, le=65535, alias="DAPR_GRPC_PORT")
    """The gRPC port of the service's own sidecar. Without it, chat calls analytics directly."""
    dapr_api_token: Token | None = Field(None, alias="DAPR_API_TOKEN")
    """The token that the sidecar requires, if it requires one."""
    app_api_token: Token | None = Field(None, alias="APP_API_TOKEN")
    """The token that callers of the gRPC port, including the sidecar, must show as
    `dapr-api-token`; health checks need none."""

    otlp_endpoint: HttpUrl | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where spans are sent (OTLP over HTTP), like `http://localhost:4318`. Without it or
    `OTEL_EXPORTER_ZIPKIN_ENDPOINT` nothing is traced."""
    otlp_headers: SecretStr | None = Field(None, alias="OTEL_EXPORTER_OTLP_HEADERS")
    """Headers that the OTLP endpoint requires: `name=value`, separated by commas."""
    zipkin_endpoint: HttpUrl | None = Field(None, alias="OTEL_EXPORTER_ZIPKIN_ENDPOINT")
    """Where spans are sent in Zipkin's format, unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set, like
    `http://localhost:9411/api/v2/spans`."""
    sampler: Sampler = Field("parentbased_always_on", alias="OTEL_TRACES_SAMPLER")
    """Which requests are traced; `parentbased` samplers follow the caller's decision, if any."""
    sampler_arg: float = Field(1, ge=0, le=1, alias="OTEL_TRACES_SAMPLER_ARG")
    """The fraction of requests that `traceidratio` traces."""
    trace_content: bool = Field(False, alias="DACA_TRACE_CONTENT")
    """Whether the texts of messages and replies may be in spans."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _trim(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Strip values, as one from a file may end in a line feed. An empty one counts as unset."""
        found = {name: v.strip() if isinstance(v, str) else v for name, v in values.items()}
        return {name: value for name, value in found.items() if value != ""}

    @pydantic.field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr) -> SecretStr:
        with suppress(ValueError):
            parts = urlsplit(url.get_secret_value())
            hosts = parts.netloc.rpartition("@")[2].split(",")
            # A password that isn't percent-encoded may make this fail.
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

    @property
    def database(self) -> Path | SecretStr:
        """Where the service stores its data: a SQLite file, or the URL of a PostgreSQL."""
        return self.database_url or self.data_dir / self.database_file

    @property
    def otlp_headers_by_name(self) -> dict[str, str]:
        """The headers by name, their values decoded as OpenTelemetry specifies."""
        value = self.otlp_headers.get_secret_value() if self.otlp_headers else ""
        return dict(parse_env_headers(value, liberal=True))

    @property
    def sampling_ratio(self) -> float:
        ratios = {"always_on": 1.0, "always_off": 0.0}
        return ratios.get(self.sampler.removeprefix("parentbased_"), self.sampler_arg)

    def secrets(self) -> list[str]:
        """All secrets in the settings, which must not appear in the log."""
        found = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        found += self.otlp_headers_by_name.values()
        urls = [str(value) for _, value in self if isinstance(value, HttpUrl)]
        for url in (*found, *urls, *getproxies().values()):
            # A library may quote a password without the URL around it.
            found += passwords_in(url)
        return [*dict.fromkeys(secret for secret in found if secret)]

    @classmethod
    def from_environment(cls, **more: str) -> Self:
        """The settings; `more` overrides the environment. Ends the program if one is invalid."""
        meanings = {str(field.alias): field.description for field in cls.model_fields.values()}
        try:
            # scripts/run.sh reads .env itself, and sets this to "": not all apps may see all of it.
            file = os.environ.get("DACA_ENV_FILE", ".env")
            warn_of_misspelt({*os.environ, *_names_in(file)}, meanings)
            return cls.model_validate({"_env_file": file, **more})
        except OSError as error:
            sys.exit(f"Bad settings: .env: {error.strerror}")
        except pydantic.ValidationError as error:
            # Without the values, as one of them may be a key.
            text = "Bad settings in the environment or in .env:"
            for problem in error.errors():
                name = problem["loc"][0] if problem["loc"] else ".env"
                text += f"\n  {name}: {problem['msg'].removeprefix('Value error, ')}"
                if meaning := meanings.get(str(name)):
                    text += f" ({' '.join(meaning.split())})"
            sys.exit(text)
