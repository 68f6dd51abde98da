"""What programs between a client and a server have in common."""

import asyncio
from collections.abc import Callable


async def pass_on(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    seen: Callable[[bytes], None] = lambda data: None,
) -> None:
    """Copy what comes from `source` until it ends, or either of them breaks."""
    try:
        while data := await source.read(65536):
            seen(data)
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()
