"""Gets missing programs by the scripts that install them."""

import asyncio
import importlib.util
import os
import signal
from contextlib import suppress
from pathlib import Path

from scripts.lib.project import ROOT, StackError

_STOP_TIMEOUT_S = 5.0


async def get(
    program: str, *, script: str = "install_dapr.sh", without: str, asks: bool = False
) -> Path:
    """The program's path. `asks`: the script may ask for a password. Raises `StackError`, with the
    advice in `without`, if it can't be had."""
    printed = await _output_of("bash", f"scripts/{script}", program, asks=asks)
    if not printed:
        raise StackError(without)
    return Path(printed[-1])


async def ensure_local_model() -> None:
    """Install what the local model needs. Raises `StackError` if it can't be had."""
    if importlib.util.find_spec("xllamacpp") is None:
        script = ". scripts/lib/env.sh && ensure_runtime --extra local && echo done"
        if not await _output_of("bash", "-c", script):
            raise StackError("CHAT_MODEL_PROVIDER: the packages of [local] could not be installed")


async def _output_of(*command: str, asks: bool = False) -> list[str]:
    """The lines that it prints; none if it fails, which it explains itself on stderr."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            # A new session can be ended as a whole, but can't read a password from the terminal.
            start_new_session=not asks,
        )
    )
    try:
        # Shielded: asyncio, if cancelled during the start, would wait for the process to end.
        process = await asyncio.shield(starting)
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process = await starting
        with suppress(ProcessLookupError, TimeoutError):
            if asks:
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGTERM)
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        raise
    return out.decode().splitlines() if process.returncode == 0 else []
