"""A model's stream that a host or a proxy cuts short must not pass for a whole reply.

The SDK asks for a finish reason of OpenAI's own host only; from any other one, a connection
that closes cleanly in mid-sentence looks to it like success.
"""

import re
from collections.abc import AsyncIterator

import httpx2

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"|data:\s*\[DONE\]')
# Longer than anything that the pattern matches, for one that spans two chunks.
_OVERLAP = 64


class WholeStream(httpx2.AsyncByteStream):
    """An event stream of Chat Completions; one that ends without a finish reason raises
    `httpx2.RemoteProtocolError`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The stream's pieces."""
        finished, tail = False, b""
        async for chunk in self._stream:
            window = tail + chunk
            finished = finished or _FINISH.search(window) is not None
            tail = window[-_OVERLAP:]
            yield chunk
        if not finished:
            raise httpx2.RemoteProtocolError("the model's stream ended before its finish")

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
