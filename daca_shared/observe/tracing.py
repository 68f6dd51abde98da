"""Where spans begin: what the services ask of tracing, and what they get when it is off.

Nothing here imports OpenTelemetry; `daca_shared.observe.otel` does, once the settings say where
spans go.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grpc import aio
    from opentelemetry.trace import Tracer

    from daca_shared.calls.methods import Wrap
    from daca_shared.settings import ServiceSettings

_NOTHING = nullcontext()


class Tracing:
    """Makes no spans, and costs next to nothing."""

    tracer: "Tracer | None" = None
    """What makes spans; None if nothing does."""
    content = False
    """Whether the texts of messages may be in spans."""
    server_wraps: "Sequence[Wrap]" = ()
    client_interceptors: "Sequence[aio.ClientInterceptor]" = ()

    def span(self, name: str) -> AbstractContextManager[None]:
        """A span inside the present one; none where there is none, as in a poll."""
        return _NOTHING

    def batch(self, name: str, origins: Iterable[str | None]) -> AbstractContextManager[None]:
        """A trace of its own, for what was gathered from the traces of `origins`."""
        return _NOTHING

    def origin(self) -> str | None:
        """The present span, to be named in a later `batch`; None if it isn't recorded."""
        return None

    async def close(self) -> None:
        """Send what is still here."""


NO_TRACING = Tracing()


def choose_tracing(settings: "ServiceSettings", service_name: str) -> Tracing:
    """The tracing that the settings ask for."""
    if settings.otlp_endpoint is None and settings.zipkin_endpoint is None:
        return NO_TRACING
    # Only now: it costs a sixth of a second and 5 MB.
    from daca_shared.observe.otel import OtelTracing  # noqa: PLC0415

    return OtelTracing(settings, service_name)
