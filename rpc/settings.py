"""What the settings of both services have in common; the only readers of the environment."""

import sys
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


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
    shutdown_grace_s: float = Field(10, gt=0, le=600, validation_alias="DACA_SHUTDOWN_GRACE_S")
    """How long requests in flight may take to finish after SIGTERM."""
    drain_s: float = Field(0.3, ge=0, le=600, validation_alias="DACA_DRAIN_S")
    """How long to go on taking requests after SIGTERM while health already says no, so that
    whoever balances load can turn away."""
    reuse_port: bool = Field(False, validation_alias="DACA_REUSE_PORT")
    """Whether another process may listen on the same gRPC port: for a rolling restart, in
    which the next process serves before this one ends."""
    ready_fd: int | None = Field(None, ge=3, validation_alias="DACA_READY_FD")
    """A pipe on which to tell a supervisor that we serve."""
    dapr_grpc_port: int | None = Field(None, ge=1, le=65535, validation_alias="DAPR_GRPC_PORT")
    """Our sidecar's gRPC port; without one, other services are dialled directly."""
    dapr_api_token: SecretStr | None = Field(None, validation_alias="DAPR_API_TOKEN")
    """The token that our sidecar wants to see."""
    app_api_token: SecretStr | None = Field(None, validation_alias="APP_API_TOKEN")
    """The token that callers of our gRPC port must show, as our sidecar does."""

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

    def secrets(self) -> list[str]:
        """Every secret that is set, for the log to leave out."""
        values = (getattr(self, name) for name in type(self).model_fields)
        secrets = [v.get_secret_value() for v in values if isinstance(v, SecretStr)]
        if self.database_url:
            # A library may quote the password without the URL around it.
            url = urlsplit(self.database_url.get_secret_value())
            secrets.append(unquote(url.password or ""))
        return [secret for secret in secrets if secret]

    @classmethod
    def from_environment(cls) -> Self:
        """Read and check all settings; end the program, naming each bad variable, if one is bad."""
        try:
            return cls()
        except ValidationError as error:
            # Values stay out of the message: one of them may be a key.
            problems = [f"  {e['loc'][0]}: {e['msg']}" for e in error.errors()]
            sys.exit("Bad settings in the environment or in .env:\n" + "\n".join(problems))
