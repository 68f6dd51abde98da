"""A client of Chat Completions for servers that are compatible with OpenAI's.

openai's own client takes more CPU than the rest of a chat: it searches every parameter for names to
translate, and so takes longer the more history there is (ADR 0008). This one sends what the Agents
SDK has built, over aiohttp, and returns and raises openai's public types."""

import asyncio
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, Omit
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from chat_service.chat.speech import clean
from chat_service.hosts.answers import AnswerReader, text_in
from chat_service.hosts.refusals import REQUEST, is_known, refuses, status_error
from daca_shared.domain import Failed

log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 1000
# In a stream each character can take some hundred bytes. A whole answer may be one line.
_MAX_ANSWER_BYTES, _MAX_LINE_BYTES = 16 * 2**20, 4 * 2**20
_MAX_ERROR_BYTES, _ERROR_TIMEOUT_S = 64 * 1024, 2.0
# How long reading one answer may keep the event loop from everything else.
_MAX_BLOCKING_S = 0.01
# Some hosts require a model's thoughts with its earlier messages, and most others refuse them. We
# don't keep thoughts, so earlier turns get a blank instead. `(?>` looks at the first mention only.
_WANTS_THOUGHTS = re.compile("^(?>.*?reasoning_content).*(missing|passed back)", re.DOTALL)


class CompletionsClient:
    """What the SDK uses of an `AsyncOpenAI`. `timeout_s` limits connecting, and each read of a
    stream. A whole answer comes in one piece, so only the chat's own time limit applies to it."""

    def __init__(
        self, base_url: str, api_key: str, *, timeout_s: float, proxy: str | None = None
    ) -> None:
        self.base_url = httpx2.URL(base_url.rstrip("/") + "/")
        self.api_key = api_key
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"authorization": f"Bearer {api_key}"},
            # No host accepts the lone surrogates that a model may have put into an earlier reply.
            json_serialize=lambda body: clean(json.dumps(body, ensure_ascii=False)),
            proxy=proxy,
        )
        self.close = self._http.close
        self._timeout_s = timeout_s
        self._takes_stream_options, self._wants_thoughts = True, False

    async def _create(
        self, **parameters: Any
    ) -> ChatCompletion | AsyncGenerator[ChatCompletionChunk]:
        body = {name: value for name, value in parameters.items() if not isinstance(value, Omit)}
        query, headers = body.pop("extra_query", None), body.pop("extra_headers", None)
        body |= body.pop("extra_body", None) or {}
        with_thoughts = self._wants_thoughts
        self._fit(body)
        read_s = self._timeout_s if body.get("stream") else None
        timeout = aiohttp.ClientTimeout(None, connect=self._timeout_s, sock_read=read_s)
        send = partial(self._send, params=query, headers=headers, timeout=timeout)
        try:
            response = await send(body)
        except APIStatusError as error:
            if not with_thoughts and refuses(error, _WANTS_THOUGHTS):
                self._wants_thoughts = True
                try:
                    return await self._create(**parameters)
                except APIStatusError:
                    self._wants_thoughts = False  # the first refusal was not about thoughts
                    raise
            # Hosts that don't know stream_options refuse it, each in its own words.
            if error.status_code not in (400, 422) or is_known(error):
                raise
            if not body.pop("stream_options", None):
                raise
            response = await send(body)
            self._takes_stream_options = False
            log.warning("the model's host takes no stream_options: its streams tell no usage")
        calls = (call for m in body["messages"] for call in m.get("tool_calls") or ())
        reader = AnswerReader({call["id"] for call in calls}, with_thoughts=with_thoughts)
        if body.get("stream"):
            return self._pieces(response, reader, ChatCompletionChunk.model_validate)
        return await _whole(self._pieces(response, reader, dict))

    def _fit(self, body: dict[str, Any]) -> None:
        """Change a request to what all hosts accept, or this one is known to want."""
        if not self._takes_stream_options:
            body.pop("stream_options", None)
        # Some models accept only one system message, and only as the first.
        system = [*takewhile(lambda message: message["role"] == "system", body["messages"])]
        if len(system) > 1:
            joined = "\n\n".join(text_in(message["content"]) for message in system)
            others = body["messages"][len(system) :]
            body["messages"] = [{"role": "system", "content": joined}, *others]
        for message in body["messages"]:
            if self._wants_thoughts and message["role"] == "assistant":
                message.setdefault("reasoning_content", " ")
            if message["role"] == "tool":  # not all hosts accept a list of parts
                message["content"] = text_in(message["content"]) or "(nothing)"

    async def _send(self, body: dict[str, Any], **more: Any) -> aiohttp.ClientResponse:
        """Send a request. Raises `APIStatusError` if the answer is an error."""
        with self._openai_errors():
            response = await self._http.post(f"{self.base_url}chat/completions", json=body, **more)
            if response.ok:
                return response
            words = bytearray()
            # If the body is cut short, the status still says what is wrong.
            with suppress(aiohttp.ClientError, OSError):
                async with response, asyncio.timeout(_ERROR_TIMEOUT_S):
                    while data := await response.content.read(_MAX_ERROR_BYTES - len(words)):
                        words += data
        raise status_error(response.status, words.decode(errors="replace"), response.raw_headers)

    async def _pieces[T](
        self,
        response: aiohttp.ClientResponse,
        reader: AnswerReader,
        form: Callable[[dict[str, Any]], T],
    ) -> AsyncGenerator[T]:
        """The pieces of an answer, each made by `form`. Raises `APIConnectionError` if it is cut
        short, which the SDK checks only for OpenAI's own host."""
        has_begun = False
        with self._openai_errors() as words:
            async with response, aclosing(_lines(response.content)) as lines:
                while not reader.is_over:
                    try:
                        line = await anext(lines)
                    except (aiohttp.ClientError, OSError):
                        if reader.is_whole:  # only its usage, which comes last, is missing
                            break
                        raise
                    if not has_begun:
                        words.extend(line[: _MAX_ERROR_BYTES - len(words)])
                    if piece := reader.read(line):
                        has_begun = True
                        yield form(piece)
        if not reader.is_whole:
            reason = f"The answer ended before its finish{_quoted(words)}"
            raise APIConnectionError(message=reason, request=REQUEST)

    @contextmanager
    def _openai_errors(self) -> Iterator[bytearray]:
        """Raises openai's errors. Unreadable answers are quoted from the bytes that it yields."""
        words = bytearray()
        try:
            yield words
        except TimeoutError as error:
            raise APITimeoutError(REQUEST) from error
        except (aiohttp.ClientError, OSError) as error:
            raise APIConnectionError(request=REQUEST) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            problem = f"The answer can't be read{_quoted(words)}"
            raise APIError(problem, REQUEST, body=None) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """The answer's lines, then `b""`. All of it may come at once, so this lets other tasks run now
    and then. Raises `Failed` if the answer is too large."""
    size, held = 0, bytearray()
    # `readany` reads all that has come: aiohttp drops what is unread once the connection breaks.
    while data := await content.readany():
        size += len(data)
        held += data
        start, due_s = 0, time.monotonic() + _MAX_BLOCKING_S
        if size > _MAX_ANSWER_BYTES or len(held) - held.rfind(b"\n") > _MAX_LINE_BYTES:
            raise Failed("The model's answer is larger than this service takes")
        while end := held.find(b"\n", start) + 1:
            yield bytes(held[start:end])
            start = end
            if time.monotonic() > due_s:
                await asyncio.sleep(0)
                due_s = time.monotonic() + _MAX_BLOCKING_S
        del held[:start]
    if held:
        yield bytes(held)
    yield b""


def _quoted(words: bytearray) -> str:
    """The host's words, for the log, but nothing of a reply, which is only for its user."""
    is_reply = any(name in words for name in (b'"choices"', b'content"', b'text"'))
    return "" if is_reply or not words.strip() else f": {words.decode(errors='replace')}"


async def _whole(pieces: AsyncGenerator[dict[str, Any]]) -> ChatCompletion:
    """Join the pieces of an answer. openai's `ChatCompletionStreamState` takes 0.2 ms for it."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    values = defaultdict[str, list[Any]](list)
    choice, usage = {"index": 0, "message": message, "finish_reason": "stop"}, None
    async for piece in pieces:
        usage = piece["usage"] or usage
        for part in piece["choices"]:
            choice["finish_reason"] = part["finish_reason"] or "stop"
            for name, value in part["delta"].items():
                if value is not None:
                    values[name].append(value)
    calls = [call for some in values.pop("tool_calls", []) for call in some]
    message |= {"tool_calls": calls} | {name: "".join(texts) for name, texts in values.items()}
    answer = {"id": "", "object": "chat.completion", "created": 0, "model": ""}
    return ChatCompletion.model_validate(answer | {"choices": [choice], "usage": usage})
