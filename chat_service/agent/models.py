"""Which model replies: OpenAI's, Gemini, any compatible server's, or the offline one."""

from dataclasses import dataclass

import agents
from agents import ModelSettings
from agents.models.interface import Model
from openai import AsyncOpenAI

from chat_service.agent.completions import CompletionsClient
from chat_service.agent.offline import OfflineModel
from chat_service.agent.retry_budget import one_retry
from chat_service.settings import ChatSettings

_GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta/openai/"
_OPENAI_MODEL = "gpt-4o"
_GEMINI_MODEL = "gemini-2.5-flash"
# The client's own retries know no budget.
_MAX_RETRIES = 0


@dataclass(frozen=True)
class ChatModel:
    """A model, ready to run."""

    name: str
    """For people: in replies and in the log."""
    model: Model
    settings: ModelSettings
    client: AsyncOpenAI | None = None
    """Its connections, if it needs any."""

    async def close(self) -> None:
        """Close the connections."""
        if self.client is not None:
            await self.client.close()


def choose_model(settings: ChatSettings) -> ChatModel:
    """The model that the settings ask for; the first of these that is set wins:
    OPENAI_BASE_URL, OPENAI_API_KEY, GEMINI_API_KEY, and else the offline model.

    Raises `ValueError`, naming the variable, when CHAT_MODEL is needed and missing.
    """
    key = settings.openai_api_key and settings.openai_api_key.get_secret_value()
    if settings.openai_base_url:
        if not settings.model:
            raise ValueError("CHAT_MODEL: must name the model when OPENAI_BASE_URL is set")
        # A local server wants no key, but the client insists on one.
        return _completions(settings, settings.openai_base_url, key or "none", settings.model)
    if key:
        name = settings.model or _OPENAI_MODEL
        client = AsyncOpenAI(
            api_key=key, timeout=settings.model_timeout_s, max_retries=_MAX_RETRIES
        )
        model = agents.OpenAIResponsesModel(name, client)
        return ChatModel(name, model, ModelSettings(retry=one_retry()), client)
    if settings.gemini_api_key:
        key = settings.gemini_api_key.get_secret_value()
        return _completions(settings, _GEMINI_URL, key, settings.model or _GEMINI_MODEL)
    return ChatModel("offline", OfflineModel(), ModelSettings())


def _completions(settings: ChatSettings, base_url: str, key: str, name: str) -> ChatModel:
    """A compatible server: it has Chat Completions, while Responses is OpenAI's own."""
    client = CompletionsClient(base_url, key, settings.model_timeout_s)
    model = agents.OpenAIChatCompletionsModel(name, client)
    return ChatModel(name, model, ModelSettings(include_usage=True, retry=one_retry()), client)
