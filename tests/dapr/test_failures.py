"""Whatever part is down, a chat is answered in time, claims no count, and is counted later."""

import asyncio
import signal
import time
from uuid import uuid4

import pytest

from lab.stack import RunningStack, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The timeout for analytics (0.5 s), and slack for a loaded machine.
_ANSWER_WITHIN_S = 4


def service_name(system: RunningStack, who: str) -> str:
    return {
        "analytics": system.analytics,
        "analytics' sidecar": f"{system.analytics}-sidecar",
        "chat's sidecar": f"{system.chat}-sidecar",
    }[who]


async def chat_without_a_count(system: RunningStack, user_id: str) -> None:
    began = time.monotonic()
    status, body = await system.chat_with(user_id)
    assert status == 200
    assert body["message_count"] is None
    assert "can't tell" in body["reply"]
    assert time.monotonic() - began < _ANSWER_WITHIN_S


@pytest.mark.parametrize("who", ["analytics", "analytics' sidecar", "chat's sidecar"])
async def test_chats_go_on_during_a_failure_and_are_counted_after_it(
    system: RunningStack, who: str
) -> None:
    user_id = f"user-{uuid4()}"
    await system.chat_with(user_id)
    await eventually(lambda: system.count(user_id), 1)
    service = system.stack.services[service_name(system, who)]
    await service.stop(signal.SIGKILL)
    try:
        await asyncio.gather(*(chat_without_a_count(system, user_id) for _ in range(3)))
    finally:
        await service.start()
    await system.wait_until_ready()
    await eventually(lambda: system.count(user_id), 4)
    status, body = await system.chat_with(user_id)
    assert (status, body["message_count"]) == (200, 4)


async def test_a_hanging_analytics_costs_half_a_second_and_no_message(
    system: RunningStack,
) -> None:
    user_id = f"user-{uuid4()}"
    service = system.stack.services[system.analytics]
    service.signal(signal.SIGSTOP)
    try:
        await chat_without_a_count(system, user_id)
    finally:
        service.signal(signal.SIGCONT)
    await eventually(lambda: system.count(user_id), 1)


async def test_a_killed_sidecar_is_found_again_at_once(system: RunningStack) -> None:
    sidecar = system.stack.services[f"{system.analytics}-sidecar"]
    await sidecar.stop(signal.SIGKILL)
    await sidecar.start()
    assert await sidecar.listens()
    await eventually(lambda: system.count("bob"), 3, timeout_s=5)


async def test_a_killed_chat_service_loses_no_accepted_message(system: RunningStack) -> None:
    user_id = f"user-{uuid4()}"
    analytics = system.stack.services[system.analytics]
    chat = system.stack.services[system.chat]
    await analytics.stop(signal.SIGKILL)
    await chat_without_a_count(system, user_id)
    await chat.stop(signal.SIGKILL)
    await chat.start()
    await analytics.start()
    await system.wait_until_ready()
    await eventually(lambda: system.count(user_id), 1)


async def test_both_services_end_with_exit_code_0_on_a_signal(system: RunningStack) -> None:
    terminal_closed = (system.analytics, signal.SIGHUP)
    told = [(name, signal.SIGTERM) for name in (system.chat, system.analytics)]
    for name, number in [*told, terminal_closed]:
        service = system.stack.services[name]
        assert await service.stop(number) == 0, service.last_words()
        await service.start()
        await service.listens()
    await system.wait_until_ready()
