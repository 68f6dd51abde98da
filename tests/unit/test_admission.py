import asyncio
import time
from contextlib import ExitStack, suppress

import pytest

from chat_service.access.admission import Admission
from daca_shared.domain import Unavailable
from tests.fakes import eventually, watched

LATE_S = 0.06
LARGEST_BURST, FEWEST = 256, 32


def measure(admission: Admission, lag_s: float, times: int = 20) -> None:
    """Report the lags of a second in which the loop was late by `lag_s`."""
    for _ in range(times):
        admission.note_lag(lag_s)


def fill(admission: Admission, stack: ExitStack, chats: int) -> None:
    for _ in range(chats):
        stack.enter_context(admission)


def taken(admission: Admission) -> int:
    """How many chats are admitted before one is refused."""
    with ExitStack() as stack:
        with suppress(Unavailable):
            fill(admission, stack, 2 * LARGEST_BURST)
        return admission.chats


def flood(admission: Admission, times: int) -> None:
    """Simulate that more chats come than are admitted, and that the loop is late."""
    for _ in range(times):
        with ExitStack() as stack:
            fill(admission, stack, taken(admission))
            with pytest.raises(Unavailable):
                admission.let_come()
        admission.note_lag(LATE_S)


def test_an_idle_service_takes_all_that_come_at_once() -> None:
    assert taken(Admission()) == 2 * LARGEST_BURST


def test_a_loop_that_is_briefly_late_refuses_only_what_exceeds_a_large_burst() -> None:
    admission = Admission()
    measure(admission, LATE_S)
    with ExitStack() as stack:
        fill(admission, stack, LARGEST_BURST)
        with pytest.raises(Unavailable) as refused, admission:
            pass
        assert refused.value.retry_after_s == 1
        measure(admission, 0)
        fill(admission, stack, 1)
    assert (admission.chats, admission.turned_away) == (0, 1)


def test_a_loop_that_is_late_at_this_moment_refuses_what_exceeds_a_large_burst() -> None:
    admission = Admission()
    measure(admission, LATE_S / 2)
    time.sleep(3 * LATE_S)  # the next measurement is overdue
    assert taken(admission) == LARGEST_BURST
    measure(admission, 0, 1)
    assert taken(admission) == 2 * LARGEST_BURST


def test_a_single_pause_that_is_not_over_is_no_overload() -> None:
    admission = Admission()
    measure(admission, 0)
    time.sleep(0.05 + LATE_S)
    assert taken(admission) == 2 * LARGEST_BURST


def test_a_loop_that_nobody_measures_is_not_late() -> None:
    admission = Admission()
    time.sleep(2 * LATE_S)
    assert arriving(admission) == taken(admission) == 2 * LARGEST_BURST


def test_one_late_step_is_no_overload() -> None:
    admission = Admission()
    admission.note_lag(2 * LATE_S)
    assert taken(admission) == 2 * LARGEST_BURST


def test_a_loop_that_stays_late_admits_fewer_and_fewer_but_always_some() -> None:
    admission = Admission()
    measure(admission, LATE_S)
    time.sleep(1.1)
    measure(admission, LATE_S)
    # Nobody has been refused yet.
    assert taken(admission) == LARGEST_BURST
    flood(admission, 2)
    assert FEWEST < taken(admission) < LARGEST_BURST
    flood(admission, 100)
    assert taken(admission) == FEWEST


def test_a_late_loop_that_takes_more_than_a_large_burst_is_overloaded_at_once() -> None:
    admission = Admission()
    measure(admission, LATE_S)
    for _ in range(LARGEST_BURST + 1):
        with admission:
            pass
    measure(admission, LATE_S, 1)
    # Under overload the limit falls, and applies even while the loop is on time.
    flood(admission, 1)
    measure(admission, LATE_S / 2, 2)
    assert taken(admission) < LARGEST_BURST


def test_a_flood_with_an_intermittently_late_loop_is_no_burst() -> None:
    admission = Admission()
    began = time.monotonic()
    while time.monotonic() - began < 1.2:
        measure(admission, LATE_S, 10)
        measure(admission, LATE_S / 2, 2)
        time.sleep(0.05)
    measure(admission, LATE_S / 2)
    assert taken(admission) == LARGEST_BURST


def test_a_loop_on_time_admits_slowly_more_and_a_calm_one_admits_all() -> None:
    admission = Admission()
    measure(admission, LATE_S)
    time.sleep(1.1)
    measure(admission, LATE_S)
    flood(admission, 100)
    measure(admission, 0)
    assert FEWEST < taken(admission) < LARGEST_BURST
    time.sleep(1.1)
    measure(admission, 0, 1)
    assert taken(admission) == 2 * LARGEST_BURST


def arriving(admission: Admission) -> int:
    """How many requests can arrive before one is refused."""
    for count in range(2 * LARGEST_BURST):
        try:
            admission.let_come()
        except Unavailable:
            return count
    return 2 * LARGEST_BURST


def test_requests_whose_bodies_are_still_to_come_are_counted_while_the_loop_is_late() -> None:
    admission = Admission()
    measure(admission, LATE_S)
    with ExitStack() as stack:
        fill(admission, stack, 56)
        assert arriving(admission) == LARGEST_BURST - 56
        fill(admission, stack, 10)  # some have arrived
        assert arriving(admission) == 0
        # Requests whose bodies don't come don't take up places for long.
        measure(admission, LATE_S, 1)
        assert arriving(admission) == LARGEST_BURST - 66


def test_arriving_requests_cause_no_refusals_in_an_idle_service() -> None:
    admission = Admission(1)
    assert arriving(admission) == 2 * LARGEST_BURST
    with admission:
        assert admission.chats == 1


def test_there_is_a_maximum_even_for_chats_that_only_wait() -> None:
    admission = Admission(22)
    with ExitStack() as stack:
        fill(admission, stack, 22)
        with pytest.raises(Unavailable), admission:
            pass
        assert admission.chats == 22


def test_a_failed_chat_frees_its_place() -> None:
    admission = Admission()
    with pytest.raises(RuntimeError), admission:
        raise RuntimeError
    assert admission.chats == 0


async def work(seconds: float) -> None:
    """Keep the loop fully busy, in steps that are each too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.12)  # noqa: ASYNC251 - simulates code that blocks the loop
        await asyncio.sleep(0)


async def test_sustained_load_causes_refusals_until_it_ends() -> None:
    admission = Admission()
    async with watched(admission):
        await work(2)
        assert admission.lag_s > LATE_S
        assert taken(admission) == LARGEST_BURST
        await eventually(lambda: taken(admission) == 2 * LARGEST_BURST)


def test_large_bodies_that_are_held_leave_room_for_small_ones() -> None:
    admission = Admission()
    for _ in range(64):
        admission.hold(1_000_000, of=1_000_000)
    with pytest.raises(Unavailable):
        admission.hold(65_000, of=65_000)
    admission.hold(1_000, of=1_000)
    admission.let_go(1_066_000)
    admission.hold(900_000, of=900_000)
    assert admission.turned_away == 1


def test_a_body_over_the_limit_is_no_overload() -> None:
    Admission().hold(65_000_000, of=65_000_000)  # it is refused for its own length
