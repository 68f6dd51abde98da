"""An issuer's public keys (RFC 7517)."""

import asyncio
import logging
import math

import httpx2
import jwt

from daca_shared.domain import Unavailable

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
# How long a withdrawn key is believed at the most, while its host answers.
_MAX_AGE_S = 300.0
# Tokens with made-up key ids must not become requests to the host.
_MIN_INTERVAL_S = 10.0
_NONSENSE = (ValueError, TypeError, AttributeError)


class Jwks:
    """The keys at `url`, fetched when they are old or one is unknown, but not too often. While
    their host is away, those that we have stay good."""

    def __init__(
        self, url: str, *, max_age_s: float = _MAX_AGE_S, min_interval_s: float = _MIN_INTERVAL_S
    ) -> None:
        self._url = url
        self._max_age_s = max_age_s
        self._min_interval_s = min_interval_s
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._tried_at_s = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """The key with this id. Raises `jwt.InvalidKeyError`; `Unavailable` if no keys are
        known."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._tried_at_s >= (
            self._max_age_s if kid in self._keys else self._min_interval_s
        ):
            self._tried_at_s = now_s
            self._fetching = asyncio.create_task(self._fetch())
        if kid not in self._keys and self._fetching:
            # Shielded, as others wait for it too and this caller may leave.
            await asyncio.shield(self._fetching)
        if not self._keys:
            told, wait_s = "Tokens can't be checked now", self._min_interval_s
            raise Unavailable(told, code="NO_TOKEN_KEYS", retry_after_s=wait_s)
        if kid not in self._keys:
            raise jwt.InvalidKeyError
        return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S), httpx2.AsyncClient() as client:
                answer = await client.get(self._url)
            keys = jwt.PyJWKSet.from_dict(answer.raise_for_status().json())
            self._keys = {key.key_id: key for key in keys if key.public_key_use in (None, "sig")}
        # The host may be away, or say anything.
        except (httpx2.HTTPError, OSError, jwt.PyJWTError, *_NONSENSE) as error:
            log.warning("the keys at AUTH_JWKS_URL can't be had: %r", error)
