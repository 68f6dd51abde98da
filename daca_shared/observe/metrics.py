"""Metrics in Prometheus' form: those that both services have, and where they are to be read.

A process is one service, so its metrics are the process's. Names are those of OpenTelemetry's
semantic conventions, as Prometheus writes them."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Histogram, disable_created_metrics, make_wsgi_app

from daca_shared.calls.ports import PortTaken
from daca_shared.settings import ServiceSettings

log = logging.getLogger(__name__)

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
_TICK_S = 0.1

# They would double the number of series, for nobody.
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


@cache
def call_durations(method: str, code: str) -> Any:
    """Where the durations of a method's calls that ended so are observed. `method` must be one
    of ours: each makes a time series."""
    return _calls.labels(method, code)


async def watch_lag() -> None:
    """Measure the event loop's lag, for ever."""
    while True:
        due = time.perf_counter() + _TICK_S
        await asyncio.sleep(_TICK_S)
        _lag.observe(max(0.0, time.perf_counter() - due))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False  # not left to the Python version: a second process must not share it


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # a reader who sends nothing must not hold its thread for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def serving_metrics(
    settings: ServiceSettings, port: int | None, variable: str
) -> Iterator[int | None]:
    """The metrics can be read over HTTP, from a thread of their own; yields the port, or None if
    they are off. `variable` is the setting that a `PortTaken` error names."""
    if port is None:
        yield None
        return
    host = settings.metrics_host
    try:
        server = make_server(host, port, make_wsgi_app(), _Server, _QuietHandler)
    except OSError as error:
        raise PortTaken(host, port, variable) from error
    log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
