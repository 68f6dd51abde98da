"""The settings of the chat service."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from rpc.settings import ServiceSettings


def _split(value: object) -> object:
    return value.replace(" ", "").split(",") if isinstance(value, str) else value


class ChatSettings(ServiceSettings):
    """See the README's table."""

    http_port: int = Field(8000, ge=0, le=65535, validation_alias="CHAT_HTTP_PORT")
    """The HTTP gateway's port; 0 takes a free one."""
    http_fd: int | None = Field(None, ge=3, validation_alias="CHAT_HTTP_FD")
    """A listening socket to inherit instead of opening `http_port`: it outlives this process,
    so that nobody is refused while the next one starts."""
    grpc_port: int = Field(8002, ge=0, le=65535, validation_alias="CHAT_GRPC_PORT")
    """The gRPC port, which is the Dapr app port; 0 takes a free one."""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("http://localhost:3000",), validation_alias="CHAT_CORS_ORIGINS"
    )
    """Which web origins may call the gateway, separated by commas."""
    timeout_s: float = Field(60, gt=0, le=600, validation_alias="CHAT_TIMEOUT_S")
    """How long one chat may take; a caller's own deadline can only shorten it."""
    max_concurrent: int = Field(2000, ge=1, validation_alias="CHAT_MAX_CONCURRENT")
    """How many chats may be under way at once; each takes some 100 KB."""
    max_text_length: int = Field(8000, ge=1, validation_alias="CHAT_MAX_TEXT_LENGTH")
    """The longest message text, in characters."""

    analytics_app_id: str = Field("analytics-service", validation_alias="ANALYTICS_APP_ID")
    """The Dapr app id of the analytics service."""
    analytics_address: str = Field("127.0.0.1:8001", validation_alias="ANALYTICS_ADDRESS")
    """Where the analytics service is when there is no sidecar."""

    model: str | None = Field(None, validation_alias="CHAT_MODEL")
    """The model's name; each host has a default but for OPENAI_BASE_URL's."""
    model_timeout_s: float = Field(30, gt=0, le=600, validation_alias="CHAT_MODEL_TIMEOUT_S")
    """How long one request to the model may take."""
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY")
    """The key for OpenAI, or for the server at OPENAI_BASE_URL."""
    openai_base_url: str | None = Field(None, validation_alias="OPENAI_BASE_URL")
    """A server that speaks OpenAI's Chat Completions API, e.g. http://localhost:11434/v1."""
    gemini_api_key: SecretStr | None = Field(None, validation_alias="GEMINI_API_KEY")
    """The key for Google's Gemini."""

    @property
    def database(self) -> Path:
        """The SQLite file with the conversations and the outbox."""
        return self.data_dir / "chat.db"
