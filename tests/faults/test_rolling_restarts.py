"""New processes take the place of old ones under load, and nobody notices."""

import pytest

from tests.dapr.conftest import RunningStack
from tests.faults.conftest import FULL, Report, exact, settle
from tests.faults.load import load, percentile

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

_TIMES = 10 if FULL else 2


@pytest.mark.parametrize("who", ["analytics", "chat"])
async def test_rolling_restarts_fail_no_request(
    system: RunningStack, report: Report, who: str
) -> None:
    service = system.stack.services[getattr(system, who)]
    exit_codes = []
    async with load(system.url) as running:
        for _ in range(_TIMES):
            old = service.process
            await system.stack.replace(service.name)
            exit_codes.append(old and old.returncode)
    figures = await settle(system, running)
    figures["p99 s"] = percentile(running.latencies_s, 99)
    figures["without a count"] = len(running.countless)
    bar = {
        "no failed request": not running.failures and not running.resent,
        "counts exact": exact(figures),
        "exit code 0": exit_codes == [0] * _TIMES and not service.ending(),
    }
    report(f"{_TIMES} rolling restarts of {who}", figures, bar)
