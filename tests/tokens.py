"""Valid and invalid bearer tokens, and a host that publishes keys."""

import asyncio
import json
import time
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from chat_service.access.identity import SYMMETRIC, Identity
from chat_service.access.jwks import ASYMMETRIC, Jwks

SECRET = "a secret of the tests, 64 bytes long so that any HMAC may use it"
AUDIENCE = "daca-chat"

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def claims(subject: str = "alice", **others: Any) -> dict[str, Any]:
    """The claims of a valid token; None leaves a claim out."""
    given = {"sub": subject, "aud": AUDIENCE, "exp": time.time() + 60, **others}
    return {name: value for name, value in given.items() if value is not None}


def token(subject: str = "alice", **others: Any) -> str:
    return jwt.encode(claims(subject, **others), SECRET, "HS256")


def bearer(subject: str = "alice") -> dict[str, str]:
    """The HTTP header, which is also the gRPC metadata."""
    return {"authorization": f"Bearer {token(subject)}"}


def secret_identity(issuer: str | None = None) -> Identity:
    async def find_keys(kid: str | None, algorithm: str, *, refresh: bool) -> list[str]:
        return [SECRET]

    return Identity(find_keys, SYMMETRIC, audience=AUDIENCE, issuer=issuer)


def jwks_identity(jwks: Jwks) -> Identity:
    return Identity(jwks.find, ASYMMETRIC, audience=AUDIENCE, issuer=None)


def public_jwk(key: PrivateKey, kid: str, **others: str) -> dict[str, Any]:
    """The public half of `key`, as a host publishes it."""
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    (algorithm,) = (made for kind, made in kinds.items() if isinstance(key, kind))
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **others}


class JwksHost:
    """Publishes `keys`, and counts requests. Can be slow or fail."""

    def __init__(self, *keys: dict[str, Any], tls: SSLContext | None = None) -> None:
        self._tls = tls
        self.answer: Any = {"keys": [*keys]}
        self.status = 200
        self.delay_s = 0.0
        self.fetches = 0

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"https://localhost:{port}/jwks" if self._tls else f"http://127.0.0.1:{port}/jwks"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        await asyncio.sleep(self.delay_s)
        body = json.dumps(self.answer).encode()
        head = f"HTTP/1.1 {self.status} X\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}\r\n".encode() + body)
        await writer.drain()
        writer.close()
