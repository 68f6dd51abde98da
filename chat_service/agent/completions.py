"""A client of Chat Completions for servers that are compatible with OpenAI's.

openai's own takes more CPU than all the rest of a chat: it walks through every parameter for names
to translate, the longer the more history there is (ADR 0008). This one sends what the Agents SDK
has made, over aiohttp. What comes back are openai's public types and errors."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Self

import aiohttp
import httpx2
import openai
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

_MAX_CONNECTIONS = 1000
# aiohttp refuses a line of a stream that is longer than twice this.
_READ_BUFFER_BYTES = 2**20
# Headers that no longer fit: aiohttp has decoded the content.
_UNDONE = {"content-encoding", "content-length", "transfer-encoding"}
_STATUS_ERRORS: dict[int, type[APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}

type _Chunks = AsyncGenerator[ChatCompletionChunk]


class CompletionsClient:
    """What the Agents SDK asks of an `AsyncOpenAI`. `timeout_s` is how long it waits for a
    connection, and then for each next piece of an answer."""

    def __init__(
        self, base_url: str, api_key: str, *, timeout_s: float, proxy: str | None = None
    ) -> None:
        self.base_url = httpx2.URL(base_url.rstrip("/") + "/")
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))
        # Only for openai's errors, which refer to one.
        self._request = httpx2.Request("POST", f"{self.base_url}chat/completions")
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._timeout = aiohttp.ClientTimeout(None, connect=timeout_s, sock_read=timeout_s)
        self._proxy = proxy

    def with_options(self, **_: Any) -> Self:
        """Itself: the SDK asks for a copy without retries, and there never are any."""
        return self

    async def close(self) -> None:
        await self._http.close()

    async def _create(
        self,
        *,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> ChatCompletion | _Chunks:
        left_out = (openai.Omit, openai.NotGiven)
        body = {k: value for k, value in parameters.items() if not isinstance(value, left_out)}
        body.update(extra_body or {})
        with self._openai_errors():
            response = await self._http.post(
                str(self._request.url), params=extra_query, json=body, headers=extra_headers
            )
            if response.ok and body.get("stream"):
                return self._chunks(response)
            content = await response.read()
            if not response.ok:
                raise self._status_error(response, content)
            return _parsed(ChatCompletion, json.loads(content))

    async def _chunks(self, response: aiohttp.ClientResponse) -> _Chunks:
        """The pieces of a streamed answer. One that is cut short raises `APIConnectionError`: the
        SDK looks for a finish in the answers of OpenAI's own host only."""
        finished = False
        with self._openai_errors():
            async with response:
                async for line in response.content:
                    field, _, data = line.partition(b":")
                    if field != b"data":
                        continue
                    if data.strip() == b"[DONE]":
                        return
                    event = json.loads(data)
                    if "error" in event:
                        raise APIError("The stream has an error", self._request, body=event)
                    chunk = _parsed(ChatCompletionChunk, event)
                    finished = finished or any(choice.finish_reason for choice in chunk.choices)
                    yield chunk
        if not finished:
            reason = "The stream ended before its finish"
            raise APIConnectionError(message=reason, request=self._request)

    @cached_property
    def _http(self) -> aiohttp.ClientSession:
        """Made when it is first used, as it needs a running event loop."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            proxy=self._proxy,
            timeout=self._timeout,
            read_bufsize=_READ_BUFFER_BYTES,
        )

    def _status_error(self, response: aiohttp.ClientResponse, content: bytes) -> APIStatusError:
        headers = {n: v for n, v in response.headers.items() if n.lower() not in _UNDONE}
        answer = httpx2.Response(
            response.status, headers=headers, request=self._request, content=content
        )
        default = openai.InternalServerError if response.status >= 500 else APIStatusError  # noqa: PLR2004
        error = _STATUS_ERRORS.get(response.status, default)
        return error(f"Error code: {response.status}", response=answer, body=None)

    @contextmanager
    def _openai_errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise APITimeoutError(self._request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise APIConnectionError(request=self._request) from error
        except ValueError as error:
            raise APIError("The answer can't be read", self._request, body=None) from error


def _parsed[T: openai.BaseModel](kind: type[T], data: Any) -> T:
    try:
        return kind.model_validate(data)
    except ValidationError:
        # All that openai's own client does: it is lenient, and twenty times slower.
        return kind.construct(**data)
