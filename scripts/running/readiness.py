"""Whether the stack is ready, and if not, why."""

import asyncio
import re
import time
from collections.abc import Collection
from typing import Any

from scripts.lib import probes
from scripts.lib.project import StackError
from scripts.service import Service

TIMEOUT_S = 60.0
_POLL_S = 0.1
_LOOK_AT_LINES, _SHOW_LINES = 1000, 5
# The level in a line of daprd's and of our own services.
_ERROR = re.compile(r'level"?[=:] ?"?(error|fatal|critical)')


async def wait_until_ready(
    services: Collection[Service], url: str, *, timeout_s: float = TIMEOUT_S
) -> None:
    """Wait until `url` (chat's /readyz) says that analytics answers. Raises `StackError`, with the
    log of the process at fault, if one ends before, or it takes too long."""
    deadline = time.monotonic() + timeout_s
    answer: Any = None
    while time.monotonic() < deadline:
        for service in services:
            if service.ending() and service.is_vital:
                raise StackError(
                    f"{service.name} ended while starting "
                    f"({service.ending()}); its last words:\n{service.last_words()}"
                )
        _, answer = await asyncio.to_thread(probes.get, url)
        if isinstance(answer, dict) and answer.get("analytics") == "ok":
            return
        await asyncio.sleep(_POLL_S)
    raise StackError(f"not ready after {timeout_s:.0f} s:\n{await _reasons(services, answer)}")


async def _reasons(services: Collection[Service], answer: Any) -> str:
    """What is wrong with the stack."""
    reasons = [
        f"{service.name} does not serve; its last words:\n{service.last_words()}"
        for service in services
        if not all([await probes.listens(host, port) for _, host, port in service.addresses()])
    ]
    if not reasons:
        # All are running, so the errors in their logs may tell what is wrong.
        reasons.append(f"chat says: {answer['analytics'] if isinstance(answer, dict) else answer}")
        reasons += [f"{s.name} says:\n{words}" for s in services if (words := _errors(s))]
    return "\n".join(reasons)


def _errors(service: Service) -> str:
    found = [line for line in service.log.end(_LOOK_AT_LINES) if _ERROR.search(line)]
    return "\n".join(f"    {line}" for line in found[-_SHOW_LINES:])
