import asyncio
import time
import tracemalloc

import pytest
from limits import parse_many

from chat_service.access.rates import Rates
from daca_shared.domain import LimitReached


async def test_a_user_over_the_limit_is_refused_and_others_are_not() -> None:
    rates = Rates(parse_many("2/minute"))
    for _ in range(2):
        rates.spend("alice")
    with pytest.raises(LimitReached, match="from this user: at most 2 per 1 minute") as refused:
        rates.spend("alice")
    assert refused.value.retry_after_s is not None
    assert 55 < refused.value.retry_after_s <= 60
    rates.spend("bob")


async def test_a_limit_ends_with_its_time() -> None:
    rates = Rates(parse_many("1/second"))
    rates.spend("alice")
    with pytest.raises(LimitReached):
        rates.spend("alice")
    await asyncio.sleep(1.01)
    rates.spend("alice")


async def test_each_of_several_limits_counts() -> None:
    rates = Rates(parse_many("100/second;2/hour"))
    for _ in range(2):
        rates.spend("alice")
    with pytest.raises(LimitReached, match="2 per 1 hour"):
        rates.spend("alice")


async def test_a_request_refused_by_one_limit_does_not_count_for_others() -> None:
    rates = Rates(parse_many("2/minute;1/hour"), parse_many("2/minute"))
    rates.spend("alice", "192.0.2.1")
    for _ in range(5):
        with pytest.raises(LimitReached, match="1 per 1 hour"):
            rates.spend("alice", "192.0.2.1")
    rates.spend("bob", "192.0.2.1")
    with pytest.raises(LimitReached, match="from this address"):
        rates.spend("carol", "192.0.2.1")
    rates.spend("carol", "192.0.2.2")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1:1234", "192.0.2.1", True),
        ("[2001:db8::1]:1234", "2001:db8::2", True),
        ("a socket", "another", False),
    ],
)
async def test_addresses_are_grouped_by_owner(one: str, two: str, same: bool) -> None:
    rates = Rates(address=parse_many("1/minute"))
    rates.spend("alice", one)
    if same:
        with pytest.raises(LimitReached, match="from this address"):
            rates.spend("bob", two)
    else:
        rates.spend("bob", two)


async def test_over_grpc_the_limit_per_address_does_not_apply() -> None:
    rates = Rates(address=parse_many("1/minute"))
    for _ in range(3):
        rates.spend("alice")


async def test_made_up_users_take_a_bounded_part_of_memory() -> None:
    rates = Rates(parse_many("1/day"))
    tracemalloc.start()
    try:
        for n in range(100_000):
            rates.spend(str(n))
        size, _ = tracemalloc.get_traced_memory()
        for n in range(100_000, 200_000):
            rates.spend(str(n))
        assert tracemalloc.get_traced_memory()[0] < 1.5 * size
    finally:
        tracemalloc.stop()


async def test_ended_windows_are_forgotten() -> None:
    rates = Rates(parse_many("1/second"))
    tracemalloc.start()
    try:
        for n in range(10_000):
            rates.spend(str(n))
        size, _ = tracemalloc.get_traced_memory()
        await asyncio.sleep(1.01)
        rates.spend("last")
        assert tracemalloc.get_traced_memory()[0] < size / 2
    finally:
        tracemalloc.stop()


async def test_many_users_do_not_make_it_slow() -> None:
    rates = Rates(parse_many("5/minute"))
    alone_s = shortest_s(rates)
    for n in range(100_000):
        rates.spend(str(n))
    assert shortest_s(rates) < 50 * alone_s


def shortest_s(rates: Rates) -> float:
    """The shortest time that a message of one user takes."""
    times_s = []
    for n in range(50):
        began_s = time.perf_counter()
        rates.spend(f"alice{n}")
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)
