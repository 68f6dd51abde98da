"""Who calls, by a bearer token (RFC 6750), and whom they may act as. Both edges ask here."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from chat_service.access.jwks import Jwks
from chat_service.settings import ChatSettings
from daca_shared.domain import Forbidden, Unauthenticated
from daca_shared.observe.requests import note_user

log = logging.getLogger(__name__)

# Which algorithms are fixed here, never taken from a token: a public key is no HMAC secret.
SYMMETRIC = ("HS256",)
ASYMMETRIC = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
)  # fmt: skip
# How far the issuer's clock may be from ours.
_LEEWAY_S = 10


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    subject: str | None
    """A user id; None where nobody is asked who they are, so that all may be anyone."""

    def must_be(self, user_id: str) -> None:
        """The request is this user's. Raises `Forbidden` for another's user id."""
        if self.subject not in (None, user_id):
            raise Forbidden("The token is not this user's")
        note_user(user_id)


class Identity(Protocol):
    """Tells who calls."""

    @property
    def required(self) -> bool:
        """Whether callers have to say who they are."""
        ...

    async def caller(self, authorization: str | None) -> Caller:
        """Who sent this `Authorization` header. Raises `Unauthenticated`, `Unavailable`."""
        ...


class Anyone:
    """Believes every user id."""

    required = False

    async def caller(self, authorization: str | None) -> Caller:
        """Somebody."""
        return Caller(None)


ANYONE = Anyone()


class Keys(Protocol):
    """What signatures are checked with."""

    async def find(self, kid: str | None) -> Any:
        """The key with this id. Raises `jwt.PyJWTError` if there is none, `Unavailable` if that
        can't be known."""
        ...


class Secret:
    """The one key that signs and checks."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def find(self, kid: str | None) -> str:
        """The secret."""
        return self._secret


class Bearer:
    """Believes tokens that are signed with one of `keys`, for us and for now."""

    required = True

    def __init__(
        self, keys: Keys, algorithms: Sequence[str], *, audience: str, issuer: str | None
    ) -> None:
        self._keys = keys
        self._algorithms = algorithms
        self._audience = audience
        self._issuer = issuer

    async def caller(self, authorization: str | None) -> Caller:
        """The token's subject. What is wrong with a token stays unsaid: only forgers would
        learn from it."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("A bearer token is required")
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                self._algorithms,
                {"require": ["exp", "sub"], "enforce_minimum_key_length": True},
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
            )
        except jwt.PyJWTError:
            raise Unauthenticated("The bearer token is not valid") from None
        return Caller(claims["sub"])


def choose_identity(settings: ChatSettings) -> Identity:
    """As the settings say."""
    audience, issuer = settings.jwt_audience, settings.jwt_issuer
    if settings.jwks_url:
        jwks = Jwks(str(settings.jwks_url))
        return Bearer(jwks, ASYMMETRIC, audience=audience, issuer=issuer)
    if settings.jwt_secret:
        secret = Secret(settings.jwt_secret.get_secret_value())
        return Bearer(secret, SYMMETRIC, audience=audience, issuer=issuer)
    log.warning("no AUTH_JWKS_URL and no AUTH_JWT_SECRET is set: anyone may claim any user id")
    return ANYONE
