"""Every RPC of both services with arbitrary bytes, over real connections."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from dapr.proto.runtime.v1 import appcallback_pb2
from google.protobuf.descriptor import Descriptor
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given
from hypothesis import strategies as st

from daca.analytics.v1 import analytics_pb2
from daca.chat.v1 import chat_pb2
from tests.fuzz.amounts import FULL, amount
from tests.fuzz.hostile import messages, mutants
from tests.real_services import Services, running_services

TIMEOUT_S = 30
_BASES, _MUTANTS = 8, 25
EXPECTED = {StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND}


class Rpc(NamedTuple):
    """One method of one service."""

    server: str
    path: str
    is_streaming: bool
    is_duplex: bool
    request: Descriptor

    def __repr__(self) -> str:
        return self.path


class Base(NamedTuple):
    """Well-formed requests to one method, to be mutated."""

    rpc: Rpc
    data: bytes
    other: bytes
    seed: int


def rpcs(server: str, file: Any) -> list[Rpc]:
    return [
        Rpc(
            server,
            f"/{service.full_name}/{method.name}",
            method.server_streaming,
            method.client_streaming,
            method.input_type,
        )
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


RPCS = [
    rpc
    for server, ours in (("chat", chat_pb2), ("analytics", analytics_pb2))
    for file in (ours, health_pb2, reflection_pb2)
    for rpc in rpcs(server, file)
    # It never ends.
    if rpc.path != "/grpc.health.v1.Health/Watch"
] + rpcs("analytics", appcallback_pb2)
OURS = [rpc for rpc in RPCS if rpc.path.startswith("/daca.") or rpc.path.endswith("/OnInvoke")]


@st.composite
def bases(draw: st.DrawFn) -> Base:
    rpc = draw(st.sampled_from(OURS) | st.sampled_from(RPCS))
    data, other = (draw(messages(rpc.request)).SerializeToString() for _ in range(2))
    return Base(rpc, data, other, draw(st.integers(0, 2**32)))


async def status_of(services: Services, rpc: Rpc, data: bytes) -> StatusCode:
    channel: Any = getattr(services, rpc.server)
    try:
        if rpc.is_duplex:
            async for _ in channel.stream_stream(rpc.path)(iter([data]), timeout=TIMEOUT_S):
                pass
        elif rpc.is_streaming:
            async for _ in channel.unary_stream(rpc.path)(data, timeout=TIMEOUT_S):
                pass
        else:
            await channel.unary_unary(rpc.path)(data, timeout=TIMEOUT_S)
    except aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


def expected(rpc: Rpc) -> set[StatusCode]:
    # Methods of dapr and grpc that we don't implement.
    spare = rpc.path.startswith("/dapr.") or rpc.path == "/grpc.health.v1.Health/List"
    return EXPECTED | {StatusCode.UNIMPLEMENTED} if spare else EXPECTED


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop that runs only when a test calls it, because Hypothesis isn't async."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture
def services(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Services]:
    stack = AsyncExitStack()
    yield runner.run(stack.enter_async_context(running_services(tmp_path)))
    runner.run(stack.aclose())


@pytest.mark.timeout(900)
def test_any_bytes_are_answered_or_refused(
    runner: asyncio.Runner,
    services: Services,
    record_property: Callable[[str, object], None],
) -> None:
    seen: Counter[str] = Counter()

    async def send(calls: list[tuple[Rpc, bytes]]) -> list[StatusCode]:
        return await asyncio.gather(*(status_of(services, rpc, data) for rpc, data in calls))

    @amount(short=40, full=520)
    @given(st.lists(bases(), min_size=_BASES, max_size=_BASES))
    def check(given_bases: list[Base]) -> None:
        calls = [
            (base.rpc, data)
            for base in given_bases
            for data in mutants(base.data, base.other, base.seed, _MUTANTS)
        ]
        statuses = runner.run(send(calls))
        seen.update(status.name for status in statuses)
        assert [
            (status.name, rpc, data)
            for (rpc, data), status in zip(calls, statuses, strict=True)
            if status not in expected(rpc)
        ] == []

    check()
    record_property("messages", seen.total())
    record_property("statuses", dict(seen))
    assert seen.total() >= (100_000 if FULL else 8_000)
    assert set(seen) >= {status.name for status in EXPECTED}
    hello = chat_pb2.ChatRequest(user_id="alice", text="hi").SerializeToString()
    (chat,) = (rpc for rpc in RPCS if rpc.path.endswith("/Chat"))
    assert runner.run(status_of(services, chat, hello)) is StatusCode.OK
