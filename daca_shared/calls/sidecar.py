"""All that the services know of Dapr: how to reach another app through our own sidecar, and how to
recognise our own sidecar. Facts were measured with daprd 1.18."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from grpc import StatusCode, aio
from pydantic import SecretStr

from daca_shared.domain import Unauthenticated
from daca_shared.settings import ServiceSettings

# How a proxied call ends if its target, or a sidecar on the way, is away. For an app id that it
# can't find, daprd answers UNKNOWN instead of UNAVAILABLE.
UNREACHABLE = frozenset({StatusCode.UNAVAILABLE, StatusCode.UNKNOWN})

_TOKEN_KEY = "dapr-api-token"  # noqa: S105 - its name, not its value

_OPTIONS = (
    # Otherwise an http_proxy in the environment is used even for loopback addresses.
    ("grpc.enable_http_proxy", 0),
    # To find a restarted sidecar again within half a second, instead of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, how long connecting may take: on a busy machine, longer than 50 ms.
    ("grpc.min_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Peer:
    address: str
    """`host:port` to connect to."""
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Metadata for each call. Never user data, and never a caller's own metadata, as a
    `dapr-callee-app-id` in it would override our app id."""
    way: str = "directly, without a sidecar"
    """How calls get there, in words."""

    def channel(self) -> aio.Channel:
        """A new channel; one serves the whole process."""
        return aio.insecure_channel(self.address, options=_OPTIONS)


def find_peer(settings: ServiceSettings, app_id: str, direct_address: str) -> Peer:
    """The app `app_id`, through our sidecar if we have one, else at `direct_address`."""
    port = settings.dapr_grpc_port
    # Without a sidecar we must show the app the token that its sidecar would show.
    token = settings.dapr_api_token if port else settings.app_api_token
    shown = ((_TOKEN_KEY, token.get_secret_value()),) if token else ()
    if port is None:
        return Peer(direct_address, shown)
    return Peer(f"127.0.0.1:{port}", (("dapr-app-id", app_id), *shown), "through our sidecar")


def check_token(token: SecretStr, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Raises `Unauthenticated` unless this is a health check, or shows `token`, as sidecars do."""
    if path.startswith("/grpc.health.v1.Health/"):
        return
    shown = [v.encode() if isinstance(v, str) else v for k, v in metadata if k == _TOKEN_KEY]
    # A sidecar adds exactly one. `compare_digest`, as its time doesn't depend on what matches.
    if len(shown) != 1 or not hmac.compare_digest(shown[0], token.get_secret_value().encode()):
        problem = "The metadata dapr-api-token is missing or wrong"
        raise Unauthenticated(problem, code="BAD_APP_TOKEN")
