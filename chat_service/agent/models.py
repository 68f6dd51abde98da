"""Which model replies: OpenAI's, Gemini, any compatible server's, or the offline one."""

import logging
from dataclasses import dataclass
from typing import cast

from agents import Model, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel
from openai import AsyncOpenAI

from chat_service.agent.completions import CompletionsClient
from chat_service.agent.offline import OfflineModel
from chat_service.agent.retry_budget import one_retry
from chat_service.settings import ChatSettings
from daca_shared.domain import Misconfigured

log = logging.getLogger(__name__)

_GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta/openai/"
_OPENAI_MODEL = "gpt-4o"
_GEMINI_MODEL = "gemini-2.5-flash"


class _Settings(ModelSettings):
    """In each run the SDK compares agents, by all that they are: settings by each of their fields,
    but a callable by its name alone. That gives back 6 % of all chats (ADR 0014)."""

    def __call__(self) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class ChatModel:
    name: str
    """For people: in replies and in the log."""
    model: Model
    settings: ModelSettings
    client: AsyncOpenAI | CompletionsClient | None = None

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()


def choose_model(settings: ChatSettings) -> ChatModel:
    """The model that the settings ask for; the first of these that is set wins: OPENAI_BASE_URL,
    OPENAI_API_KEY, GEMINI_API_KEY, and else the offline model. Raises `Misconfigured`, naming the
    variable, when CHAT_MODEL is needed and missing."""
    key = settings.openai_api_key and settings.openai_api_key.get_secret_value()
    if settings.openai_base_url:
        if not settings.model:
            raise Misconfigured("CHAT_MODEL: must name the model when OPENAI_BASE_URL is set")
        # A local server wants no key, but the client insists on one.
        return _completions(settings, settings.openai_base_url, key or "none", settings.model)
    if key:
        name = settings.model or _OPENAI_MODEL
        # The client's own retries have no budget; `one_retry` has.
        client = AsyncOpenAI(api_key=key, timeout=settings.model_timeout_s, max_retries=0)
        model = OpenAIResponsesModel(name, client)
        return ChatModel(name, model, _Settings(retry=one_retry()), client)
    if settings.gemini_api_key:
        key = settings.gemini_api_key.get_secret_value()
        return _completions(settings, _GEMINI_URL, key, settings.model or _GEMINI_MODEL)
    log.warning("no model key is set: replies come from the labelled offline model")
    return ChatModel("offline", OfflineModel(), _Settings())


def _completions(settings: ChatSettings, base_url: str, key: str, name: str) -> ChatModel:
    """A compatible server: it has Chat Completions, while Responses is OpenAI's own."""
    client = CompletionsClient(
        base_url, key, timeout_s=settings.model_timeout_s, proxy=settings.proxy_for(base_url)
    )
    # It has what the SDK asks of an AsyncOpenAI.
    model = OpenAIChatCompletionsModel(name, cast(AsyncOpenAI, client))
    return ChatModel(name, model, _Settings(include_usage=True, retry=one_retry()), client)
