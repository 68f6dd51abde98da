"""The link between the services' hosts fails: chats go on, and are counted later."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from lab.load import Load, load
from lab.stack import RunningStack, running_stack
from tests.fault_table import FULL, PAUSE_S, Report
from tests.faults.conftest import counts_are_turns, database, full_service, stored_messages
from tests.faults.network import Network, on_host, two_hosts

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="only root can make namespaces: the network is NOT tested"
    ),
]

# When the link is back, TCP's next retransmission may be that far away.
_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with two_hosts() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart(
    tmp_path_factory: pytest.TempPathFactory, daprd: Path, network: Network
) -> AsyncIterator[RunningStack]:
    folder = tmp_path_factory.mktemp("apart")
    with on_host(next(iter(network.hosts))):
        async with running_stack(folder, daprd, network.move) as running:
            yield running


async def test_a_link_that_is_down_costs_no_message(
    apart: RunningStack, network: Network, report: Report
) -> None:
    down_s = 10 if FULL else 2
    async with load(apart.url, pause_s=PAUSE_S) as running:
        await asyncio.sleep(0.5)
        network.down()
        try:
            await asyncio.sleep(down_s)
        finally:
            network.up()
        back = time.monotonic()
        is_full = await full_service(running, _WITHIN_S if FULL else 1)
    await _report(report, f"link down for {down_s} s", apart, running, back, is_full=is_full)


async def test_a_link_that_loses_packets_costs_no_message(
    apart: RunningStack, network: Network, report: Report
) -> None:
    lossy_s = 30 if FULL else 3
    async with load(apart.url, pause_s=PAUSE_S) as running:
        await asyncio.sleep(0.5)
        with network.loss():
            await asyncio.sleep(lossy_s)
        back = time.monotonic()
        is_full = await full_service(running, _WITHIN_S if FULL else 1)
    await _report(report, f"30 % loss for {lossy_s} s", apart, running, back, is_full=is_full)


async def _report(
    report: Report, fault: str, apart: RunningStack, running: Load, back: float, *, is_full: bool
) -> None:
    same = await counts_are_turns(apart, running.prefix)
    stored = stored_messages(database(apart, apart.analytics, "analytics.db"), running.prefix)
    late_s = running.full_service_after(back)
    counts = [await apart.count(user_id) for user_id in running.users]
    counted = sum(count or 0 for count in counts)
    figures = {"chats": running.sent, "failed": dict(running.failures), "stored": stored}
    figures |= {"counted": counted, "without a count": len(running.without_count)}
    figures |= {"full service after s": late_s, "slowest s": max(running.latencies_s)}
    bar = {
        "no failed chat": not running.failures,
        "counts exact": len(running.accepted) == stored == counted and not running.wrong_counts,
        "each count is its user's turns": same,
        "full service again": is_full,
    }
    speed = {f"full service within {_WITHIN_S:.0f} s": late_s <= _WITHIN_S}
    report(fault, figures, bar, speed)
