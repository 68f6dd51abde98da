"""OpenAI's client without its walk through each request.

It looks into every message and every tool for names to translate, of which Chat Completions
has none: a quarter of the CPU time of a request to a model. Everything else is the client's.
"""

from functools import cached_property
from typing import Any

from openai import AsyncOpenAI, AsyncStream
from openai._base_client import make_request_options
from openai._utils import is_given
from openai.resources.chat import AsyncChat
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

_REQUEST_OPTIONS = ("extra_headers", "extra_query", "extra_body", "timeout")


class DirectClient(AsyncOpenAI):
    """An `AsyncOpenAI` whose Chat Completions go out as they are given."""

    @cached_property
    def chat(self) -> AsyncChat:
        """See `AsyncOpenAI.chat`."""
        return _Chat(self)


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._client)


class _Completions(AsyncCompletions):
    async def create(self, **parameters: Any) -> Any:
        given = {name: value for name, value in parameters.items() if is_given(value)}
        options = {name: given.pop(name) for name in _REQUEST_OPTIONS if name in given}
        return await self._post(
            "/chat/completions",
            body=given,
            options=make_request_options(**options, security={"bearer_auth": True}),
            cast_to=ChatCompletion,
            stream=bool(given.get("stream")),
            stream_cls=AsyncStream[ChatCompletionChunk],
        )
