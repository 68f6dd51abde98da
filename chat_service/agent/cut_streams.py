"""A model's stream that a host or a proxy cuts short must not pass for a whole reply.

The SDK asks for a finish reason of OpenAI's own host only; from any other one, a connection
that closes cleanly in mid-sentence looks to it like success.
"""

import re
from collections.abc import AsyncIterator

import aiohttp
import httpx2

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"|data:\s*\[DONE\]')
# Longer than anything that the pattern matches, for one that spans two chunks.
_OVERLAP = 64


class WholeStream(httpx2.AsyncByteStream):
    """The event stream of Chat Completions in aiohttp's answer, with httpx2's errors. One that
    ends without a finish reason raises `httpx2.RemoteProtocolError`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The stream's pieces."""
        finished, tail = False, b""
        try:
            async for chunk in self._response.content.iter_any():
                window = tail + chunk
                finished = finished or _FINISH.search(window) is not None
                tail = window[-_OVERLAP:]
                yield chunk
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the model's stream stopped") from error
        except aiohttp.ClientError as error:
            raise httpx2.ReadError("the model's stream broke off") from error
        if not finished:
            raise httpx2.RemoteProtocolError("the model's stream ended before its finish")

    async def aclose(self) -> None:
        """Close the stream."""
        self._response.close()
