"""An issuer's public keys (RFC 7517)."""

import asyncio
import json
import logging
import math
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt

from daca_shared.domain import Unavailable

log = logging.getLogger(__name__)

# Fixed: a token that chooses its algorithm could have a public key used as an HMAC secret.
ASYMMETRIC = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
)  # fmt: skip
_TIMEOUT_S, _MAX_BYTES = 5.0, 1_000_000


@dataclass(eq=False)
class Jwks:
    """The keys at `url`, fetched when they are old or a key id is unknown, but not too often. While
    their host is away, the known ones stay valid for a time."""

    url: str
    proxy: str | None = None
    max_age_s: float = 300.0
    max_stale_s: float = 3600.0
    """How long a withdrawn key is trusted: `max_age_s` while its host answers, else this."""
    min_interval_s: float = 10.0
    """The least time between fetches: else each token with a made-up key id would cause one."""
    _keys: list[jwt.PyJWK] = field(default_factory=list, init=False)
    _tried_at_s: float = field(default=-math.inf, init=False)
    _fetched_at_s: float = field(default=-math.inf, init=False)
    _is_away: bool = field(default=False, init=False)
    _fetching: asyncio.Task[None] | None = field(default=None, init=False)

    async def find(
        self, kid: str | None, algorithm: str, *, refresh: bool = False
    ) -> Sequence[jwt.PyJWK]:
        """The keys for `algorithm`: with the id `kid`, or all if it is None. `refresh` fetches them
        anew, as none of the known ones fits. Raises `Unavailable` if none can be had."""
        now_s = asyncio.get_running_loop().time()
        age_s = now_s - self._fetched_at_s
        # Well before they are too old, so that nobody has to wait.
        is_due = refresh or age_s >= self.max_age_s / 2
        if is_due and now_s - self._tried_at_s >= self.min_interval_s:
            # That it was away long ago doesn't tell whether it is now.
            self._is_away &= now_s - self._tried_at_s < self.max_age_s
            self._tried_at_s = now_s
            self._fetching = asyncio.create_task(self._fetch())
        is_old = age_s >= self.max_age_s and not self._is_away
        if self._fetching and (refresh or is_old or age_s >= self.max_stale_s):
            # Shielded, as others wait for it too, and this caller may leave.
            await asyncio.shield(self._fetching)
        keys = (key for key in self._keys if kid in (None, key.key_id))
        found = [key for key in keys if key.algorithm_name == algorithm]
        # While the host is away, an unknown key may be one that it has just published.
        is_unknown = refresh and not found and self._is_away
        if is_unknown or now_s - self._fetched_at_s >= self.max_stale_s:
            problem, wait_s = "Tokens can't be checked now", self.min_interval_s
            raise Unavailable(problem, code="NO_TOKEN_KEYS", retry_after_s=wait_s)
        return found

    async def _fetch(self) -> None:
        try:
            published = json.loads(await self._get())["keys"]
            if keys := [key for jwk in published for key in _usable(jwk)]:
                self._keys, self._is_away = keys, False
                self._fetched_at_s = asyncio.get_running_loop().time()
                return
            problem: object = "none of them is of use"
        except LookupError:
            problem = "there are none; is it the URL of the keys, not of the issuer's settings?"
        except Exception as error:  # noqa: BLE001 - the host may be away, or send anything
            problem = error
        self._is_away = True
        log.warning("the keys at AUTH_JWKS_URL can't be had: %r", problem)

    async def _get(self) -> bytes:
        # The client ignores the environment, where one unusable proxy would fail all requests. This
        # context still honours SSL_CERT_FILE, for an issuer with a private CA.
        trusted = ssl.create_default_context()
        client = httpx2.AsyncClient(trust_env=False, proxy=self.proxy, verify=trusted)
        body = bytearray()
        async with asyncio.timeout(_TIMEOUT_S), client, client.stream("GET", self.url) as answer:
            async for piece in answer.raise_for_status().aiter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ValueError("they are too many")
        return bytes(body)


def _usable(jwk: Any) -> Iterator[jwt.PyJWK]:
    """The key, once for each algorithm with which it may verify signatures."""
    for algorithm in ASYMMETRIC:
        # It may be a private key, one of another type, or no key at all.
        with suppress(Exception):
            is_meant = jwk.get("alg") in (None, algorithm) and jwk.get("use") in (None, "sig")
            if is_meant and "verify" in jwk.get("key_ops", ["verify"]):
                key = jwt.PyJWK(jwk, algorithm)
                key.Algorithm.verify(b"", key.Algorithm.prepare_key(key.key), b"")
                yield key
