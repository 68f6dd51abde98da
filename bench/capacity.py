"""The resources that a number of daily users needs, from measured costs and stated assumptions.

`python -m bench.capacity` prints the tables of docs/scaling.md.
"""

import heapq
import math
import random
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """The inputs of the tables."""

    # Measured on two cores that all processes shared (bench/results, 2026-11-29). CPU is per chat,
    # with all that it causes, in an open loop at 60 % of the peak, with an instant model.
    chat_cpu_ms: float = 2.9
    analytics_cpu_ms: float = 0.66
    sidecars_cpu_ms: float = 0.33 + 0.29
    chat_rss_mb: float = 163
    analytics_rss_mb: float = 68
    sidecar_rss_mb: float = 60
    stream_kb: float = 155
    # Assumed: the services.
    turn_bytes: float = 2500  # a prompt, its reply, their share of the indexes
    message_id_bytes: float = 100  # with its index entry; kept forever
    transactions: float = 4.2  # per chat: outbox, history, turn, count, and batches
    max_streams: float = 2000 * 0.6  # per process: CHAT_MAX_CONCURRENT, with headroom
    utilisation: float = 0.6  # of a core at the peak; the second table shows why
    spares: int = 1  # processes of each kind that may be down
    # Assumed: the users.
    messages_a_day: float = 8
    peak_hour_share: float = 0.10  # of a day's messages; 0.042 if they were spread evenly
    burst: float = 1.5  # the hour's busiest seconds against its mean
    retention_days: float = 365
    # Assumed: the model.
    reply_s: float = 6.0  # only the mean matters: open streams are an M/G/∞ queue
    tokens_in: float = 1500  # mostly history
    tokens_out: float = 250
    million_tokens_in_usd: float = 2.5
    million_tokens_out_usd: float = 10.0
    # Assumed: PostgreSQL.
    postgres_tps_core: float = 1000
    postgres_max_cores: float = 32  # per node
    postgres_max_tb: float = 4  # per node: restoring more takes over five hours at 200 MB/s
    copies: int = 2  # the primary and a standby
    gb_a_core: float = 4
    # Assumed: prices.
    core_hour_usd: float = 0.04
    gb_hour_usd: float = 0.005
    disk_gb_month_usd: float = 0.12

    def month_usd(self, cores: float, gb: float) -> float:
        """The cost of machines that run for a whole month, 730 hours."""
        return 730 * (cores * self.core_hour_usd + gb * self.gb_hour_usd)


def needs(users: int, c: Costs) -> dict[str, str]:
    """The needs of `users` daily users."""
    messages = users * c.messages_a_day
    rate = messages * c.peak_hour_share / 3600 * c.burst
    mean_streams = rate * c.reply_s
    streams = mean_streams + 3.1 * math.sqrt(mean_streams)  # exceeded 0.1 % of the time

    chat_cores = rate * c.chat_cpu_ms / 1e3
    analytics_cores = rate * c.analytics_cpu_ms / 1e3
    sidecar_cores = rate * c.sidecars_cpu_ms / 1e3
    chats = math.ceil(max(chat_cores / c.utilisation, streams / c.max_streams)) + c.spares
    analytics = math.ceil(analytics_cores / c.utilisation) + c.spares
    cores = chats + analytics + sidecar_cores / c.utilisation
    memory_gb = (
        chats * (c.chat_rss_mb + c.sidecar_rss_mb)
        + analytics * (c.analytics_rss_mb + c.sidecar_rss_mb)
        + streams * c.stream_kb / 1e3
    ) / 1e3

    tps = rate * c.transactions
    turns_tb = messages * c.turn_bytes * c.retention_days / 1e12
    ids_tb = messages * c.message_id_bytes * 365 / 1e12
    disk_tb = turns_tb + ids_tb
    busy = tps / c.postgres_tps_core / c.utilisation
    parts = math.ceil(max(busy / c.postgres_max_cores, disk_tb / c.postgres_max_tb))
    postgres_cores = parts * max(2, math.ceil(busy / parts))
    machines_usd = c.month_usd(postgres_cores, postgres_cores * c.gb_a_core)
    postgres_usd = c.copies * (machines_usd + disk_tb * 1e3 * c.disk_gb_month_usd)
    chat_tokens_usd = (
        c.tokens_in * c.million_tokens_in_usd + c.tokens_out * c.million_tokens_out_usd
    ) / 1e6
    return {
        "messages a day": f"{messages:,.0f}",
        "chats a second at the peak": f"{rate:,.0f}",
        "open streams at the peak": f"{streams:,.0f}",
        "busy cores: chat": f"{chat_cores:.2f}",
        "busy cores: analytics": f"{analytics_cores:.2f}",
        "busy cores: sidecars": f"{sidecar_cores:.2f}",
        "chat processes": f"{chats}",
        "analytics processes": f"{analytics}",
        "memory of all these": f"{memory_gb:,.1f} GB",
        "PostgreSQL transactions a second": f"{tps:,.0f}",
        "disk after a year: turns": f"{turns_tb:,.1f} TB",
        "disk after a year: message ids": f"{ids_tb:,.2f} TB",
        "PostgreSQL parts, of two nodes each": f"{parts}",
        "PostgreSQL cores, without standbys": f"{postgres_cores}",
        "tokens a minute at the peak": f"{rate * 60 * (c.tokens_in + c.tokens_out) / 1e6:,.1f} M",
        "a month: services": f"${c.month_usd(cores, memory_gb):,.0f}",
        "a month: PostgreSQL": f"${postgres_usd:,.0f}",
        "a month: the model": f"${messages * 30 * chat_tokens_usd:,.0f}",
    }


def waits_ms(busy: float, servers: int, service_ms: float, arrivals: int = 100_000) -> list[float]:
    """The sorted waiting times in an M/G/k queue. Service times are lognormal, with a standard
    deviation equal to their mean."""
    chance = random.Random(1)  # noqa: S311 - a simulation that is the same each time
    sigma = math.sqrt(math.log(2))
    mu = math.log(service_ms) - sigma**2 / 2
    free, now, waits = [0.0] * servers, 0.0, []
    for _ in range(arrivals):
        now += chance.expovariate(busy * servers / service_ms)
        start = max(now, free[0])
        heapq.heapreplace(free, start + chance.lognormvariate(mu, sigma))
        waits.append(start - now)
    return sorted(waits)


def _p99(ascending: list[float]) -> float:
    return ascending[int(0.99 * len(ascending))]


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def tables(costs: Costs) -> list[str]:
    """The needs of 10⁵, 10⁶ and 10⁷ daily users, and a chat process's p99 wait by load."""
    columns = [needs(10**power, costs) for power in (5, 6, 7)]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    loads = [
        [f"{busy:.0%}"]
        + [f"{_p99(waits_ms(busy, k, costs.chat_cpu_ms)):.0f} ms" for k in (1, 2, 8)]
        for busy in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
    ]
    return [
        _markdown(["daily users", "10⁵", "10⁶", "10⁷"], rows),
        _markdown(["busy", "a queue each", "one for two", "one for eight"], loads),
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables(Costs())))
