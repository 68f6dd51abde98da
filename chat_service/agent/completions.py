"""A client of Chat Completions that is in no request's way.

openai's own takes 0.9 ms of CPU for each request, a quarter of a whole chat's (ADR 0020): it
looks into every message for names to translate, merges and copies options, and goes through
httpx2. Here aiohttp carries what the SDK has made; what comes back are openai's types, streams
and errors.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, AsyncStream, BaseModel
from openai._utils import is_given
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from chat_service.agent.cut_streams import WholeStream

_MAX_CONNECTIONS = 1000
# Of the event loop, from here to whoever reads the stream.
_STEPS_TO_READER = 6
# aiohttp has undone what they say.
_UNDONE = {"content-encoding", "content-length", "transfer-encoding"}


class CompletionsClient(AsyncOpenAI):
    """An `AsyncOpenAI` whose Chat Completions go out as they are given. `timeout_s` is how long
    it waits for a connection, and then for each next piece of an answer."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float) -> None:
        super().__init__(base_url=base_url, api_key=api_key, timeout=timeout_s, max_retries=0)
        # What the errors refer to.
        self._request = httpx2.Request("POST", f"{self.base_url}chat/completions")
        self._timeout = aiohttp.ClientTimeout(None, connect=timeout_s, sock_read=timeout_s)
        self._http: aiohttp.ClientSession | None = None

    @cached_property
    def chat(self) -> Any:
        """Has `completions.create`."""
        return SimpleNamespace(completions=SimpleNamespace(create=self._create))

    def with_options(self, **_: Any) -> Self:
        """Itself: the SDK wants a copy without retries, of which there are none."""
        return self

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()
        await super().close()

    async def _create(
        self,
        *,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> ChatCompletion | AsyncStream[ChatCompletionChunk]:
        if self._http is None:
            self._http = self._connect()
        body = {name: value for name, value in parameters.items() if is_given(value)}
        body.update(extra_body or {})
        with self._openai_errors():
            response = await self._http.post(
                str(self._request.url),
                params=extra_query,
                data=json.dumps(body).encode(),
                headers=extra_headers,
            )
            if response.ok and body.get("stream"):
                answer = self._answer(response, stream=WholeStream(response))
                return _Stream(cast_to=ChatCompletionChunk, response=answer, client=self)
            content = await response.read()
        if not response.ok:
            raise self._make_status_error_from_response(self._answer(response, content=content))
        return _parsed(ChatCompletion, json.loads(content))

    def _process_response_data(self, *, data: Any, cast_to: Any, response: httpx2.Response) -> Any:
        """The pieces of a stream come by here."""
        return _parsed(cast_to, data)

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"authorization": f"Bearer {self.api_key}", "content-type": "application/json"},
            proxy=_proxy_for(self._request.url),
            timeout=self._timeout,
        )

    def _answer(self, response: aiohttp.ClientResponse, **content: Any) -> httpx2.Response:
        headers = {n: v for n, v in response.headers.items() if n.lower() not in _UNDONE}
        return httpx2.Response(response.status, headers=headers, request=self._request, **content)

    @contextmanager
    def _openai_errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise APITimeoutError(self._request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise APIConnectionError(request=self._request) from error


def _proxy_for(url: httpx2.URL) -> str | None:
    # Once for all requests: aiohttp would look for it, and for a .netrc, anew for each.
    if proxy_bypass(url.netloc.decode()):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _parsed[T: BaseModel](kind: type[T], data: Any) -> T:
    try:
        return kind.model_validate(data)
    except ValidationError:
        # As lenient as openai's own client, which does only this, at twenty times the price.
        return kind.construct(**data)


class _Stream(AsyncStream[ChatCompletionChunk]):
    async def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        async for chunk in self._iterator:
            yield chunk
            # The first of many that came together is not to wait for the others' work.
            for _ in range(_STEPS_TO_READER):
                await asyncio.sleep(0)
