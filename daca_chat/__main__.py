"""Runs both services, without sidecars, until Ctrl-C or SIGTERM, or until one of them ends."""

import asyncio
import contextlib
import sys

from daca_shared.service import stop_signal

_SERVICES = ("analytics_service", "chat_service")


async def _run() -> int:
    stop = asyncio.create_task(stop_signal().wait())
    # In sessions of their own: Ctrl-C is to reach them one after the other.
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", name, start_new_session=True)
        for name in _SERVICES
    ]
    ends = [asyncio.create_task(process.wait()) for process in running]
    await asyncio.wait([stop, *ends], return_when=asyncio.FIRST_COMPLETED)
    is_asked = stop.done()
    # Chat first: what it still has to send, analytics takes.
    for process in reversed(running):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
    return 0 if is_asked else max(map(abs, await asyncio.gather(*ends))) or 1


def main() -> None:
    """Run both, and end as the one that ended by itself did."""
    sys.exit(asyncio.run(_run()))


if __name__ == "__main__":
    main()
