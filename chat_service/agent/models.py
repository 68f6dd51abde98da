"""Which model replies: OpenAI's, Gemini, any compatible server's, or the offline one."""

import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import agents
from agents.items import TResponseStreamEvent
from httpx2 import HTTPError, InvalidURL
from openai import AsyncOpenAI, Omit, OpenAIError, Timeout
from pydantic import ValidationError

from chat_service.agent.offline import OfflineModel
from chat_service.hosts.completions import CompletionsClient
from chat_service.settings import ChatSettings
from daca_shared.domain import Misconfigured

log = logging.getLogger(__name__)

_OPENAI_URL = "https://api.openai.com/v1"
_GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta/openai/"


class _Settings(agents.ModelSettings):
    """Settings that cost the SDK less to compare: 6 % more chats a second (ADR 0014)."""

    def __call__(self) -> None:
        """Does nothing, but makes the settings callable: in each run, the SDK compares agents with
        all that they hold, settings field by field, but callables just by name."""

    def to_traceable_dict(self) -> dict[str, Any]:
        """Empty: the SDK calls this even when nothing is traced, and our spans don't use it."""
        return {}


def _complete(response: Any) -> Any:
    """Raises for a response that isn't complete; the SDK only does if it has failed, or is cut."""
    if getattr(response, "status", None) not in (None, "completed"):
        raise agents.ModelBehaviorError(f"response.{response.status} {response.error}")
    return response


class ResponsesModel(agents.OpenAIResponsesModel):
    """A model of OpenAI's. Its client limits connecting, and each read of a stream. A whole answer
    comes in one piece, so only the chat's own time limit applies to it."""

    def __init__(self, name: str, client: AsyncOpenAI) -> None:
        super().__init__(name, client)
        patient = client.with_options(timeout=Timeout(client.timeout, read=None))

        async def create(**parameters: Any) -> Any:
            return _complete(await patient.responses.create(**parameters))

        responses = SimpleNamespace(create=create)
        checked: Any = SimpleNamespace(base_url=client.base_url, responses=responses)
        self._whole = agents.OpenAIResponsesModel(name, checked)

    async def get_response(self, *args: Any, **kwargs: Any) -> agents.ModelResponse:
        try:
            return await self._whole.get_response(*args, **kwargs)
        except (AttributeError, ValidationError) as error:
            # The client passes on what is no response, such as a page of HTML with status 200.
            raise agents.ModelBehaviorError(f"The answer is no response: {error}") from None

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[TResponseStreamEvent]:
        is_complete = False
        try:
            async for event in super().stream_response(*args, **kwargs):
                if is_complete := event.type == "response.completed":
                    _complete(event.response)
                yield event
        except (OpenAIError, HTTPError):
            if not is_complete:  # otherwise only the connection has broken, after a whole reply
                raise


@dataclass(frozen=True)
class ChatModel:
    name: str
    """Shown to people, in replies and in the log."""
    model: agents.Model
    settings: agents.ModelSettings
    client: AsyncOpenAI | CompletionsClient | None = None

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()


def choose_model(settings: ChatSettings) -> ChatModel:
    """The first that is set of OPENAI_BASE_URL, OPENAI_API_KEY and GEMINI_API_KEY decides; without
    any, it is the offline model. Raises `Misconfigured`, e.g. if CHAT_MODEL must be set."""
    url, secret, default = settings.openai_base_url, settings.openai_api_key, "gpt-4o"
    if url and not settings.model:
        raise Misconfigured("CHAT_MODEL: must name the model when OPENAI_BASE_URL is set")
    if not url and not secret:
        url, secret, default = _GEMINI_URL, settings.gemini_api_key, "gemini-2.5-flash"
        if not secret:
            log.warning("no model key is set: replies come from the labelled offline model")
            return ChatModel("offline", OfflineModel(), _Settings())
    name, timeout_s = settings.model or default, settings.model_timeout_s
    # A local server needs no key, but the client requires one.
    key = secret.get_secret_value() if secret else "no-key"
    client: Any
    if url:
        # Compatible servers speak Chat Completions; the Responses API is OpenAI's own. This client
        # passes on thoughts only for hosts that want them back, so all can be replayed.
        client = CompletionsClient(url, key, timeout_s=timeout_s, proxy=settings.proxy_for(url))
        model: agents.Model = agents.OpenAIChatCompletionsModel(
            name, client, should_replay_reasoning_content=lambda thoughts: True
        )
    else:
        # Without these, the client would read the environment itself, and send even empty values.
        headers: Any = {
            "OpenAI-Organization": settings.openai_org_id or Omit(),
            "OpenAI-Project": settings.openai_project_id or Omit(),
        }
        # No retries by the client, which has no budget for them; `one_retry` has one.
        try:
            client = AsyncOpenAI(
                api_key=key, base_url=_OPENAI_URL, timeout=timeout_s, max_retries=0,
                default_headers=headers,
            )  # fmt: skip
        except OSError as error:
            raise Misconfigured(f"SSL_CERT_FILE or SSL_CERT_DIR: {error}") from None
        except (InvalidURL, ValueError):
            problem = "one of them is not like http://proxy:3128"
            raise Misconfigured(f"HTTP_PROXY, HTTPS_PROXY, ALL_PROXY: {problem}") from None
        model = ResponsesModel(name, client)
    return ChatModel(name, model, _Settings(include_usage=True, retry=one_retry()), client)


# A retry helps after a dropped connection, but doubles the load of a host in trouble. This budget,
# for the whole process, keeps retries from becoming a storm.
_MOST_RETRIES, _RETRIES_TIME_S = 5, 50.0
# If the host asks for a longer wait, the user is told instead.
_LONGEST_WAIT_S = 2.0


def one_retry() -> agents.ModelRetrySettings:
    """At most one retry per request: if the host allows one soon, and the budget has one left."""
    latest = deque([float("-inf")] * _MOST_RETRIES, _MOST_RETRIES)

    def from_budget(context: agents.RetryPolicyContext) -> bool:
        now, wait_s = time.monotonic(), context.normalized.retry_after or 0
        if not wait_s <= _LONGEST_WAIT_S or now - latest[0] < _RETRIES_TIME_S:
            return False
        latest.append(now)
        return True

    policy = agents.retry_policies.all(agents.retry_policies.provider_suggested(), from_budget)
    backoff = agents.ModelRetryBackoffSettings(initial_delay=0.2, jitter=True)
    return agents.ModelRetrySettings(max_retries=1, policy=policy, backoff=backoff)
