"""All that Python has to know of Dapr: how to reach another app through our own sidecar.

Facts are from Dapr's "How-To: Invoke services using gRPC" and from measurements of
daprd 1.18.
"""

from dataclasses import dataclass, field

from grpc import StatusCode, aio

# What a proxied call ends with when the target, or a sidecar on the way, is away. An app id
# that nobody answers to comes back as UNKNOWN, not UNAVAILABLE.
UNREACHABLE = frozenset({StatusCode.UNAVAILABLE, StatusCode.UNKNOWN})

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

    def channel(self) -> aio.Channel:
        """A new channel; one serves the whole process."""
        return aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)


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
        metadata.append(("dapr-api-token", api_token))
    return Peer(f"127.0.0.1:{sidecar_grpc_port}", tuple(metadata))
