"""The runner's settings. Only this module reads them, from the environment or `.env`."""

import os
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field

from daca_shared.settings import ServiceSettings
from scripts.lib.project import ROOT

type _Port = Annotated[int, Field(ge=1, le=65535)]


class RunnerSettings(ServiceSettings):
    model_provider: Literal["local"] | None = Field(None, alias="CHAT_MODEL_PROVIDER")
    """`local` also runs a small language model on this machine."""
    local_model_port: _Port = Field(8003, alias="LOCAL_MODEL_PORT")
    """The local model's port."""
    sentry_port: _Port = Field(3600, alias="SENTRY_PORT")
    """sentry's port, with `--secure`."""
    sentry_health_port: _Port = Field(3601, alias="SENTRY_HEALTH_PORT")
    """sentry's health port."""
    zipkin_port: _Port = Field(9411, alias="ZIPKIN_PORT")
    """Zipkin's port, with `--zipkin`."""
    jaeger_port: _Port = Field(16686, alias="JAEGER_PORT")
    """The port of Jaeger's page, with `--jaeger`."""
    jaeger_query_port: _Port = Field(16685, alias="JAEGER_QUERY_PORT")
    """Jaeger's gRPC port."""
    jaeger_otlp_port: _Port = Field(4318, alias="JAEGER_OTLP_PORT")
    """The port at which Jaeger receives spans."""


def path_given(text: str) -> Path:
    """A path relative to where the script was started, as it has changed folder since."""
    return Path(os.environ.get("DACA_STARTED_IN", ""), text)


def read_environment() -> dict[str, str]:
    """What is set. As in the services, empty means unset, and the environment wins over `.env`."""
    found: dict[str, str] = {}
    for source in (dotenv_values(ROOT / ".env"), os.environ):
        found |= {name: value for name, value in source.items() if value and value.strip()}
    return found
