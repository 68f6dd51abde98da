"""Runs both services without sidecars, until it is told to stop, or one of them ends."""

import signal

# Until there is a `stop_signal`, Ctrl-C ends us at once, even during these slow imports.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import contextlib
import os
import sys

from analytics_service.settings import AnalyticsSettings
from chat_service.settings import ChatSettings
from daca_shared.addresses import address, listen
from daca_shared.service import stop_signal

_SERVICES = ("analytics_service", "chat_service")


def _environment() -> dict[str, str]:
    """The environment, with analytics' address for chat. Ends the program if a setting is bad."""
    analytics, chat = AnalyticsSettings.from_environment(), ChatSettings.from_environment()
    if "analytics_address" in chat.model_fields_set:
        return {**os.environ}
    port = analytics.grpc_port
    if port == 0:  # chat must know which free port it is
        with listen(analytics.host, 0) as listener:
            port = listener.getsockname()[1]
    ports = {"ANALYTICS_ADDRESS": address(analytics.host, port), "ANALYTICS_GRPC_PORT": str(port)}
    return {**os.environ, **ports}


async def _run() -> int:
    stop = asyncio.create_task(stop_signal().wait())
    environment = _environment()
    # In their own sessions, so that neither Ctrl-C nor a closed terminal reaches both at once. With
    # -P, nothing that lies in this folder, say `agents/`, is imported in place of a library.
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", name, env=environment, start_new_session=True
        )
        for name in _SERVICES
    ]
    ends = [asyncio.create_task(process.wait()) for process in running]
    await asyncio.wait([stop, *ends], return_when=asyncio.FIRST_COMPLETED)
    is_stop, codes = stop.done(), [process.returncode for process in running]

    async def wait_for_second_signal() -> None:
        await stop
        await asyncio.sleep(1)  # a terminal that is closed may send its signal twice
        await stop_signal().wait()

    second_signal = asyncio.create_task(wait_for_second_signal())
    # Chat first, as it still sends its outbox to analytics. A second signal kills both at once.
    for process, end in reversed([*zip(running, ends, strict=True)]):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            await asyncio.wait([end, second_signal], return_when=asyncio.FIRST_COMPLETED)
            process.kill()
        await asyncio.wait([end], timeout=1)
    return 0 if is_stop else next(abs(code) for code in codes if code is not None) or 1


def main() -> None:
    """Run both. The exit code is 0 after a stop, else that of the one that ended by itself."""
    argparse.ArgumentParser(
        prog="daca-chat",
        description="Run both services, without Dapr sidecars, until Ctrl-C. What can be set, by "
        "the environment or .env in this folder, docs/configuration.md lists.",
    ).parse_args()
    sys.exit(asyncio.run(_run()))


if __name__ == "__main__":
    main()
