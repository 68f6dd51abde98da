"""What the runner can be told by the environment, or else by `.env`: its only readers."""

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
    """`local`: run a small language model on this machine, too."""
    local_model_port: _Port = Field(8003, alias="LOCAL_MODEL_PORT")
    """Its port."""
    sentry_port: _Port = Field(3600, alias="SENTRY_PORT")
    """The port of sentry, with `--secure`."""
    sentry_health_port: _Port = Field(3601, alias="SENTRY_HEALTH_PORT")
    """The port of its health."""
    zipkin_port: _Port = Field(9411, alias="ZIPKIN_PORT")
    """Zipkin's port, with `--zipkin`."""
    jaeger_port: _Port = Field(16686, alias="JAEGER_PORT")
    """The port of Jaeger's page, with `--jaeger`."""
    jaeger_query_port: _Port = Field(16685, alias="JAEGER_QUERY_PORT")
    """The port of its gRPC."""
    jaeger_otlp_port: _Port = Field(4318, alias="JAEGER_OTLP_PORT")
    """The port at which it takes spans."""


def path_given(text: str) -> Path:
    """A path as people mean it: from where they have started the script, which is here by now."""
    return Path(os.environ.get("DACA_STARTED_IN", ""), text)


def read_environment() -> dict[str, str]:
    """All that is set. As for the services, empty means unset, and `.env` comes second."""
    found: dict[str, str] = {}
    for source in (dotenv_values(ROOT / ".env"), os.environ):
        found |= {name: value for name, value in source.items() if value and value.strip()}
    return found
