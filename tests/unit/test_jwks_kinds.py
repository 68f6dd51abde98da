"""What a host may publish: keys of all kinds, several with one id, and nonsense."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chat_service.access.jwks import Jwks
from daca_shared.domain import Unauthenticated, Unavailable
from tests.tokens import JwksHost, PrivateKey, claims, jwks_identity, public_jwk

RSA_KEY = rsa.generate_private_key(65537, 2048)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
RSA_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
NONSENSE: list[Any] = [
    None, 5, "keys", [], {}, {"keys": None}, {"keys": 5}, {"keys": {}}, {"keys": [None]},
    {"keys": ["key"]}, {"keys": [[]]}, {"keys": [{}]}, {"keys": [{"kid": "k", "kty": 5}]},
    {"keys": [{"kid": "k", "kty": []}]}, {"keys": [{"kid": "k", "kty": "RSA"}]},
    {"keys": [{"kid": "k", "kty": "RSA", "n": 5, "e": None}]},
    {"keys": [{"kid": "k", "kty": "RSA", "n": "AA", "e": "AA"}]},
    {"keys": [{"kid": "k", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
    {"keys": [{"kid": "k", "kty": "EC", "crv": {}, "x": [], "y": {}}]},
    {"keys": [{"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "!"}]},
    {"keys": [{"kid": "k", "kty": "RSA", "use": {}, "key_ops": 5, "alg": []}]},
]  # fmt: skip


def header(key: PrivateKey, algorithm: str, kid: str = "k") -> str:
    return f"Bearer {jwt.encode(claims(), key, algorithm, {'kid': kid})}"


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
async def test_a_key_without_an_algorithm_serves_all_of_its_type(algorithm: str) -> None:
    async with JwksHost(public_jwk(RSA_KEY, "k")) as host:
        assert await jwks_identity(Jwks(host.url)).caller(header(RSA_KEY, algorithm))


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
async def test_a_key_with_an_algorithm_serves_no_other(algorithm: str) -> None:
    async with JwksHost(public_jwk(RSA_KEY, "k", alg="PS384")) as host:
        identity = jwks_identity(Jwks(host.url))
        if algorithm == "PS384":
            assert await identity.caller(header(RSA_KEY, algorithm))
        else:
            with pytest.raises(Unauthenticated):
                await identity.caller(header(RSA_KEY, algorithm))


@pytest.mark.parametrize("algorithm", CURVES)
async def test_each_curve_has_its_algorithm(algorithm: str) -> None:
    key = ec.generate_private_key(CURVES[algorithm])
    async with JwksHost(public_jwk(key, "k")) as host:
        assert await jwks_identity(Jwks(host.url)).caller(header(key, algorithm))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_two_keys_may_have_the_same_id(algorithm: str) -> None:
    keys: list[PrivateKey]
    if algorithm == "RS256":
        keys = [RSA_KEY, rsa.generate_private_key(65537, 2048)]
    else:
        keys = [RSA_KEY, ec.generate_private_key(ec.SECP256R1())]
    async with JwksHost(*(public_jwk(key, "k") for key in keys)) as host:
        identity = jwks_identity(Jwks(host.url))
        assert await identity.caller(header(keys[1], algorithm))
        assert await identity.caller(header(keys[0], "RS256"))
        with pytest.raises(Unauthenticated):
            await identity.caller(header(rsa.generate_private_key(65537, 2048), "RS256"))


@pytest.mark.parametrize("others", [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": []}])
async def test_a_key_for_something_else_is_not_used(others: Any) -> None:
    async with JwksHost(public_jwk(RSA_KEY, "k", **others)) as host:
        with pytest.raises(Unavailable):
            await jwks_identity(Jwks(host.url)).caller(header(RSA_KEY, "RS256"))


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS[:4:3])
async def test_a_private_key_is_not_used(algorithm: str) -> None:
    private: Any = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)
    async with JwksHost({**private, "kid": "k", "key_ops": ["verify"]}) as host:
        with pytest.raises(Unavailable):
            await jwks_identity(Jwks(host.url)).caller(header(RSA_KEY, algorithm))


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
async def test_nonsense_counts_as_no_answer(nonsense: Any) -> None:
    async with JwksHost() as host:
        host.answer = nonsense
        with pytest.raises(Unavailable):
            await jwks_identity(Jwks(host.url)).caller(header(RSA_KEY, "RS256"))


async def test_nonsense_among_keys_does_not_spoil_the_others() -> None:
    good = public_jwk(RSA_KEY, "k")
    spoiled = [each for some in NONSENSE[7:] for each in some["keys"]]
    async with JwksHost(*spoiled, good) as host:
        assert await jwks_identity(Jwks(host.url)).caller(header(RSA_KEY, "RS256"))
