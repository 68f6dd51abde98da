"""Identifies callers by a bearer token (RFC 6750): as whom they may act, over HTTP and gRPC."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.types import Options

from chat_service.access.jwks import ASYMMETRIC, Jwks
from chat_service.settings import ChatSettings
from daca_shared.domain import Forbidden, Unauthenticated
from daca_shared.observe.requests import note_user

log = logging.getLogger(__name__)

SYMMETRIC = ("HS256",)
# How much the issuer's clock may differ from ours.
_LEEWAY_S = 10
# `iat` (issued at) isn't checked, as the issuer's clock may be ahead; `nbf` (not before) is.
_OPTIONS: Options = {
    "require": ["exp", "sub"], "enforce_minimum_key_length": True, "verify_iat": False
}  # fmt: skip


@dataclass(frozen=True)
class Caller:
    subject: str | None
    """The caller's user id; None if no tokens are required, so that anyone may claim any id."""

    def must_be(self, user_id: str) -> None:
        """Raises `Forbidden` if the request is about another user."""
        if self.subject not in (None, user_id):
            raise Forbidden("The token is not this user's", code="TOKEN_OF_ANOTHER_USER")
        note_user(user_id)


@dataclass(frozen=True)
class Identity:
    """Checks tokens: signature, expiry, audience, issuer. Without `find_keys` it trusts anyone."""

    find_keys: Callable[..., Awaitable[Sequence[Any]]] | None = None
    """Finds the keys for a token, as `Jwks.find` does."""
    algorithms: Sequence[str] = ()
    audience: str = ""
    issuer: str | None = None

    async def caller(self, *authorization: str) -> Caller:
        """Who sent these `Authorization` headers; there must be exactly one. Raises `Unavailable`,
        and `Unauthenticated`, which doesn't say what is wrong, as that would help forgers."""
        if self.find_keys is None:
            return Caller(None)
        scheme, _, token = (authorization[0] if len(authorization) == 1 else "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("A bearer token is required", code="NO_TOKEN")
        problem: object = "no key fits"
        try:
            token = token.lstrip(" ")  # RFC 6750 allows several
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg", "")
            # First the keys that are known. If none of them fits, those that are published now.
            for refresh in (False, True) if algorithm in self.algorithms else ():
                for key in await self.find_keys(header.get("kid"), algorithm, refresh=refresh):
                    with suppress(jwt.InvalidSignatureError):  # another key may fit
                        claims = jwt.decode(
                            token, key, self.algorithms, _OPTIONS,
                            audience=self.audience, issuer=self.issuer, leeway=_LEEWAY_S,
                        )  # fmt: skip
                        return Caller(claims["sub"])
        except jwt.PyJWTError as error:
            problem = error
        log.info("a bearer token is refused: %s", problem)
        raise Unauthenticated("The bearer token is not valid", code="BAD_TOKEN")


def choose_identity(settings: ChatSettings) -> Identity:
    audience, issuer = settings.jwt_audience, settings.jwt_issuer
    if settings.jwks_url:
        url = str(settings.jwks_url)
        return Identity(Jwks(url, settings.proxy_for(url)).find, ASYMMETRIC, audience, issuer)
    if settings.jwt_secret:
        secret = settings.jwt_secret.get_secret_value()

        async def the_secret(kid: str | None, algorithm: str, *, refresh: bool) -> Sequence[str]:
            return [] if refresh else [secret]

        return Identity(the_secret, SYMMETRIC, audience, issuer)
    log.warning("no AUTH_JWKS_URL and no AUTH_JWT_SECRET is set: anyone may claim any user id")
    return Identity()
