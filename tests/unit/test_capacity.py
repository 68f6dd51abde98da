"""The estimate in docs/scaling.md matches its calculator, and the calculator is right."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from bench.capacity import Costs, needs, tables, waits_ms

DOCUMENT = Path(__file__).parents[2] / "docs/scaling.md"


def test_the_document_has_the_calculators_tables() -> None:
    text = DOCUMENT.read_text()
    for table in tables(Costs()):
        assert table in text, f"paste what `python -m bench.capacity` prints:\n{table}"


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_servers_mean_wait_follows_pollaczek_khinchine(busy: float) -> None:
    # The standard deviation equals the mean, as for exponential service times.
    expected_ms = busy / (1 - busy) * 3.0
    assert fmean(waits_ms(busy, 1, 3.0)) == pytest.approx(expected_ms, rel=0.1)


def test_a_messages_cost_adds_up() -> None:
    # 8 messages a day of 1,500 and 250 tokens, for 30 days, and 2.5 KB each for a year.
    one = needs(10**6, Costs())
    assert one["a month: the model"] == f"${8e6 * 30 * (1500 * 2.5 + 250 * 10) / 1e6:,.0f}"
    assert one["disk after a year: turns"] == f"{8e6 * 365 * 2500 / 1e12:.1f} TB"


def test_a_slower_model_means_more_streams_and_no_more_cpu() -> None:
    fast, slow = needs(10**7, Costs()), needs(10**7, replace(Costs(), reply_s=60))
    assert slow["busy cores: chat"] == fast["busy cores: chat"]
    assert int(slow["chat processes"]) > int(fast["chat processes"])
