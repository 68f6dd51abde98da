import asyncio
import time

import pytest
from limits import parse_many

from chat_service.access.rates import Rates, Windows
from daca_shared.domain import LimitReached


async def test_a_user_over_the_limit_is_refused_and_others_are_not() -> None:
    rates = Rates(parse_many("2/minute"))
    for _ in range(2):
        await rates.spend("alice")
    with pytest.raises(LimitReached, match="from this user: at most 2 per 1 minute") as refused:
        await rates.spend("alice")
    assert refused.value.retry_after_s is not None
    assert 55 < refused.value.retry_after_s <= 60
    await rates.spend("bob")


async def test_a_limit_ends_with_its_time() -> None:
    rates = Rates(parse_many("1/second"))
    await rates.spend("alice")
    with pytest.raises(LimitReached):
        await rates.spend("alice")
    await asyncio.sleep(1.01)
    await rates.spend("alice")


async def test_each_of_several_limits_counts() -> None:
    rates = Rates(parse_many("100/second;2/hour"))
    for _ in range(2):
        await rates.spend("alice")
    with pytest.raises(LimitReached, match="2 per 1 hour"):
        await rates.spend("alice")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("a socket", "another", False),
    ],
)
async def test_whose_address_it_is(one: str, two: str, same: bool) -> None:
    rates = Rates(address=parse_many("1/minute"))
    await rates.spend("alice", one)
    if same:
        with pytest.raises(LimitReached, match="from this address"):
            await rates.spend("bob", two)
    else:
        await rates.spend("bob", two)


async def test_over_grpc_the_address_does_not_count() -> None:
    rates = Rates(address=parse_many("1/minute"))
    for _ in range(3):
        await rates.spend("alice")


async def test_ended_windows_are_forgotten() -> None:
    windows = Windows()
    for n in range(1000):
        await windows.incr(str(n), 0.001)
    await asyncio.sleep(0.01)
    await windows.incr("last", 0.001)
    assert (len(windows.storage), len(windows.expirations), len(windows.locks)) == (1, 1, 0)


async def test_many_users_do_not_make_it_slow() -> None:
    rates = Rates(parse_many("5/minute"))
    for n in range(100_000):
        await rates.spend(str(n))
    began_s = time.perf_counter()
    for _ in range(5):
        await rates.spend("alice")
    assert time.perf_counter() - began_s < 0.01
