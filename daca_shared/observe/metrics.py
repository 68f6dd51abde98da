"""Metrics of both services, and the port where they can be read. Names follow OpenTelemetry's
conventions, as Prometheus writes them. They are global, as a process is one service."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import Gauge, Histogram, disable_created_metrics, start_http_server

from daca_shared.addresses import PortTaken, address
from daca_shared.settings import ServiceSettings

log = logging.getLogger(__name__)

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
LAG_EVERY_S = 0.05
"""How often the event loop's lag is measured."""
_TIMEOUT_S = 5.0

# `_created` series would double the number of series, and nobody reads them.
disable_created_metrics()

_calls = Histogram(
    "rpc_server_call_duration_seconds",
    "How long gRPC calls took, streams until their end.",
    ("rpc_method", "rpc_response_status_code"),
    buckets=DURATIONS_S,
)
_lag = Histogram(
    "daca_event_loop_lag_seconds",
    "How late the event loop was with something that was due.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
ready = Gauge("daca_ready", "Whether the service is ready, as its health says: 1 or 0.")

call_durations = cache(_calls.labels)
"""The histogram for a method and a status. Only for our own methods, as each is a time series."""


async def watch_lag(tell: Callable[[float], None] = lambda lag_s: None) -> None:
    """Measure the event loop's lag for ever, and `tell` each measurement, in seconds."""
    while True:
        due = time.perf_counter() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag_s = max(0.0, time.perf_counter() - due)
        tell(lag_s)
        # All that was due during a pause was late. One value would be lost among the punctual ones.
        for missed in range(1 + int(lag_s / LAG_EVERY_S)):
            _lag.observe(lag_s - missed * LAG_EVERY_S)


@contextmanager
def serving_metrics(
    settings: ServiceSettings, port: int | None, variable: str
) -> Iterator[int | None]:
    """Serve the metrics over HTTP, in threads of their own. Yields the port, or None if they are
    off. `variable` is the setting that a `PortTaken` error names."""
    if port is None:
        yield None
        return
    host = settings.metrics_host
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        raise PortTaken(host, port, variable) from error
    # Otherwise a silent client would keep a thread. The attribute is a class, despite its type.
    server.RequestHandlerClass.timeout = _TIMEOUT_S  # type: ignore[attr-defined]
    log.info("metrics on http://%s/metrics", address(host, server.server_port))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
