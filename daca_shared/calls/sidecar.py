"""All that Python has to know of Dapr: how to reach another app through our own sidecar, and
how to know our own sidecar.

Facts are from Dapr's "How-To: Invoke services using gRPC" and from measurements of
daprd 1.18.
"""

import hmac
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import StatusCode, aio

from daca_shared.calls.errors import Context, abort
from daca_shared.calls.methods import Handler
from daca_shared.domain import Unauthenticated

# What a proxied call ends with when the target, or a sidecar on the way, is away. An app id
# that nobody answers to comes back as UNKNOWN, not UNAVAILABLE.
UNREACHABLE = frozenset({StatusCode.UNAVAILABLE, StatusCode.UNKNOWN})

_TOKEN_KEY = "dapr-api-token"  # noqa: S105 - its name, not its value

_CHANNEL_OPTIONS = (
    # An http_proxy in the environment would catch even loopback calls.
    ("grpc.enable_http_proxy", 0),
    # A restarted sidecar is found again within this, instead of within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True)
class Peer:
    """Another app, and the way to it."""

    address: str
    """`host:port` to connect to."""
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What each call must carry. Never user data; never a caller's own metadata, in which
    `dapr-callee-app-id` would outrank ours."""

    @property
    def way(self) -> str:
        """How calls go there, in words."""
        return "through our sidecar" if self.metadata else "directly, without a sidecar"

    def channel(self, interceptors: Sequence[aio.ClientInterceptor] = ()) -> aio.Channel:
        """A new channel; one serves the whole process."""
        return aio.insecure_channel(
            self.address, options=_CHANNEL_OPTIONS, interceptors=[*interceptors]
        )


def find_peer(
    app_id: str, *, sidecar_grpc_port: int | None, api_token: str | None, direct_address: str
) -> Peer:
    """The app `app_id`, through our sidecar if we have one, else at `direct_address`.

    `sidecar_grpc_port` and `api_token` are what daprd puts into our environment as
    `DAPR_GRPC_PORT` and `DAPR_API_TOKEN`.
    """
    if sidecar_grpc_port is None:
        return Peer(direct_address)
    metadata = [("dapr-app-id", app_id)]
    if api_token:
        metadata.append((_TOKEN_KEY, api_token))
    return Peer(f"127.0.0.1:{sidecar_grpc_port}", tuple(metadata))


class TokenGate:
    """Admits the calls that show the app's own token (`APP_API_TOKEN`), which our sidecar adds
    to those that it passes on. Probes have no token, so health needs none."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # Unlike the other kinds, this one refuses before it has read a request.
        self.refusal: Handler = grpc.stream_stream_rpc_method_handler(_refuse)

    def admits(self, call: grpc.HandlerCallDetails) -> bool:
        """Whether the call is a probe, or shows our token."""
        if call.method.startswith("/grpc.health.v1.Health/"):
            return True
        return self._is_ours([v for k, v in call.invocation_metadata or () if k == _TOKEN_KEY])

    def _is_ours(self, shown: list[str | bytes]) -> bool:
        # The sidecar leaves exactly one; compared in a time that tells nothing of ours.
        values = [v.encode() if isinstance(v, str) else v for v in shown]
        return len(values) == 1 and hmac.compare_digest(values[0], self._token)


async def _refuse(_: AsyncIterator[Any], context: Context) -> None:
    error = Unauthenticated("The metadata dapr-api-token is missing or wrong")
    await abort(context, error, "a call without our token")
