"""What the settings of both services have in common; the only readers of the environment."""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


def _parse_port(value: object) -> object:
    return None if value == "off" else value


MetricsPort = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_parse_port)]
"""A port, 0 for a free one, or `off`."""


class ServiceSettings(BaseSettings):
    """Settings from the environment, or else from `.env` in the working folder."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    data_dir: Path = Field(Path("data"), validation_alias="DACA_DATA_DIR")
    """Where the service keeps its database."""
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """The PostgreSQL that keeps it instead, for several replicas of each service."""
    host: str = Field("127.0.0.1", validation_alias="DACA_HOST")
    """The address to listen on."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="DACA_LOG_LEVEL"
    )
    """The least severe log line to print."""
    log_user_ids: bool = Field(False, validation_alias="DACA_LOG_USER_IDS")
    """Whether log lines have user ids as they are, instead of a hash."""
    metrics_host: str = Field("127.0.0.1", validation_alias="DACA_METRICS_HOST")
    """The address on which the metrics can be read."""
    shutdown_grace_s: float = Field(10, gt=0, le=600, validation_alias="DACA_SHUTDOWN_GRACE_S")
    """How long requests in flight may take to finish after SIGTERM."""
    drain_s: float = Field(0.3, ge=0, le=600, validation_alias="DACA_DRAIN_S")
    """How long to go on taking requests after SIGTERM while health already says no, so that
    whoever balances load can turn away."""
    dapr_grpc_port: int | None = Field(None, ge=1, le=65535, validation_alias="DAPR_GRPC_PORT")
    """Our sidecar's gRPC port; without one, other services are dialled directly."""
    dapr_api_token: SecretStr | None = Field(None, validation_alias="DAPR_API_TOKEN")
    """The token that our sidecar wants to see."""
    app_api_token: SecretStr | None = Field(None, validation_alias="APP_API_TOKEN")
    """The token that callers of our gRPC port must show, as our sidecar does."""

    otlp_endpoint: HttpUrl | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where spans go, by OTLP over HTTP. Without it or `zipkin_endpoint`, nothing is traced."""
    otlp_headers: SecretStr | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_HEADERS")
    """What their receiver wants to see: `name=value`, separated by commas."""
    zipkin_endpoint: HttpUrl | None = Field(None, validation_alias="OTEL_EXPORTER_ZIPKIN_ENDPOINT")
    """Or where they go as Zipkin takes them."""
    sampler: Literal[
        "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"
    ] = Field("parentbased_always_on", validation_alias="OTEL_TRACES_SAMPLER")
    """Which requests to trace that come without a decision of their caller's."""
    sampler_arg: float = Field(1, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG")
    """Which part of them `parentbased_traceidratio` takes."""
    trace_content: bool = Field(False, validation_alias="DACA_TRACE_CONTENT")
    """Whether the texts of messages and replies may be in spans."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            parts = urlsplit(url.get_secret_value() if url else "postgresql:")
            is_good = parts.scheme in _DATABASE_SCHEMES and parts.port != 0
        except ValueError:
            is_good = False
        if not is_good:
            raise ValueError("must be like postgresql://user:password@host:5432/database")
        return url

    @field_validator("otlp_headers")
    @classmethod
    def _check_headers(cls, headers: SecretStr | None) -> SecretStr | None:
        if headers and not all("=" in part for part in headers.get_secret_value().split(",")):
            raise ValueError("must be like name=value,name=value")
        return headers

    @field_validator("zipkin_endpoint")
    @classmethod
    def _check_endpoints(cls, endpoint: HttpUrl | None, others: ValidationInfo) -> HttpUrl | None:
        if endpoint and others.data.get("otlp_endpoint"):
            raise ValueError("can't be set together with OTEL_EXPORTER_OTLP_ENDPOINT")
        return endpoint

    @property
    def otlp_headers_by_name(self) -> dict[str, str]:
        """The headers, their values decoded as OpenTelemetry's rules say."""
        value = self.otlp_headers.get_secret_value() if self.otlp_headers else ""
        pairs = (part.split("=", 1) for part in value.split(",") if part)
        return {name.strip().lower(): unquote(text.strip()) for name, text in pairs}

    @property
    def sampling_ratio(self) -> float:
        """Which part of the requests to trace that come without a decision."""
        ratios = {"parentbased_always_on": 1.0, "parentbased_always_off": 0.0}
        return ratios.get(self.sampler, self.sampler_arg)

    def secrets(self) -> list[str]:
        """Every secret that is set, for the log to leave out."""
        values = (getattr(self, name) for name in type(self).model_fields)
        found = [v.get_secret_value() for v in values if isinstance(v, SecretStr)]
        found += self.otlp_headers_by_name.values()
        if self.database_url:
            # A library may quote the password without the URL around it.
            url = urlsplit(self.database_url.get_secret_value())
            found.append(unquote(url.password or ""))
        return [secret for secret in found if secret]

    @classmethod
    def from_environment(cls) -> Self:
        """Read and check all settings; end the program, naming each bad variable, if one is bad."""
        try:
            return cls()
        except ValidationError as error:
            # Values stay out of the message: one of them may be a key.
            problems = [f"  {e['loc'][0]}: {e['msg']}" for e in error.errors()]
            sys.exit("Bad settings in the environment or in .env:\n" + "\n".join(problems))
