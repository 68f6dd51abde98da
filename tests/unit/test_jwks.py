import asyncio
import base64
import hmac
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from chat_service.access.jwks import Jwks
from daca_shared.domain import Unauthenticated, Unavailable
from tests.certificates import self_signed
from tests.fakes import FOREVER_S, eventually
from tests.tokens import SECRET, JwksHost, PrivateKey, claims, jwks_identity, public_jwk

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, tuple[PrivateKey, str]] = {
    "rsa": (RSA_KEY, "RS256"),
    "ec": (EC_KEY, "ES256"),
    "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
}


def header(kid: str, known_as: str | None = None, signed_by: PrivateKey | None = None) -> str:
    key, algorithm = KEYS[kid]
    signed = jwt.encode(claims(), signed_by or key, algorithm, {"kid": known_as or kid})
    return f"Bearer {signed}"


@pytest.fixture
async def host() -> AsyncIterator[JwksHost]:
    async with JwksHost(*(public_jwk(key, kid) for kid, (key, _) in KEYS.items())) as host:
        yield host


@pytest.mark.parametrize("kid", KEYS)
async def test_a_token_signed_with_a_published_key_is_good(host: JwksHost, kid: str) -> None:
    identity = jwks_identity(Jwks(host.url))
    for _ in range(3):
        assert (await identity.caller(header(kid))).subject == "alice"
    assert host.fetches == 1


async def test_a_token_that_names_no_key_may_be_any_ones(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url))
    for key, algorithm in KEYS.values():
        assert await identity.caller(f"Bearer {jwt.encode(claims(), key, algorithm)}")
    with pytest.raises(Unauthenticated):
        await identity.caller(f"Bearer {jwt.encode(claims(), SECRET, 'HS256')}")


async def test_one_key_without_an_id_is_good_for_tokens_without_one(host: JwksHost) -> None:
    key = public_jwk(EC_KEY, "x")
    del key["kid"]
    host.answer = {"keys": [key]}
    signed = jwt.encode(claims(), EC_KEY, "ES256")
    assert await jwks_identity(Jwks(host.url)).caller(f"Bearer {signed}")


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
async def test_a_public_key_is_no_secret(host: JwksHost, encoding: serialization.Encoding) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = RSA_KEY.public_key().public_bytes(encoding, form)
    # PyJWT refuses to sign with a public key, so forge the token by hand.
    signed, _, _ = jwt.encode(claims(), SECRET, "HS256", {"kid": "rsa"}).rpartition(".")
    signature = hmac.digest(public, signed.encode(), "sha256")
    forged = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    with pytest.raises(Unauthenticated):
        await jwks_identity(Jwks(host.url)).caller(f"Bearer {forged}")


async def test_a_published_secret_is_not_used(host: JwksHost) -> None:
    key: dict[str, Any] = jwt.algorithms.HMACAlgorithm.to_jwk(SECRET, as_dict=True)
    host.answer["keys"].append({**key, "kid": "oct"})
    forged = jwt.encode(claims(), SECRET, "HS256", {"kid": "oct"})
    with pytest.raises(Unauthenticated):
        await jwks_identity(Jwks(host.url)).caller(f"Bearer {forged}")


async def test_a_key_for_encryption_or_for_another_algorithm_is_not_used(host: JwksHost) -> None:
    host.answer = {
        "keys": [public_jwk(RSA_KEY, "enc", use="enc"), public_jwk(RSA_KEY, "ps", alg="PS256")]
    }
    identity = jwks_identity(Jwks(host.url))
    for kid in ("enc", "ps"):
        with pytest.raises(Unauthenticated):
            await identity.caller(header("rsa", known_as=kid))


async def test_another_keys_signature_is_refused(host: JwksHost) -> None:
    with pytest.raises(Unauthenticated):
        await jwks_identity(Jwks(host.url)).caller(header("ec", signed_by=OTHER_EC_KEY))


async def test_unknown_key_ids_do_not_cause_requests_to_the_host(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url))
    storm = (identity.caller(header("ec", known_as=f"made-up-{n}")) for n in range(50))
    outcomes = await asyncio.gather(*storm, return_exceptions=True)
    assert all(isinstance(outcome, Unauthenticated) for outcome in outcomes)
    assert await identity.caller(header("ec"))
    assert host.fetches == 1


async def test_first_callers_share_one_fetch_and_one_may_leave(host: JwksHost) -> None:
    host.delay_s = 0.1
    identity = jwks_identity(Jwks(host.url))
    leaving, *staying = (asyncio.create_task(identity.caller(header("ec"))) for _ in range(20))
    await eventually(lambda: host.fetches)
    leaving.cancel()
    assert {caller.subject for caller in await asyncio.gather(*staying)} == {"alice"}
    assert host.fetches == 1


async def test_a_new_key_is_found(host: JwksHost) -> None:
    old, host.answer["keys"] = host.answer["keys"], []
    host.answer["keys"] = [key for key in old if key["kid"] == "rsa"]
    identity = jwks_identity(Jwks(host.url, min_interval_s=0.05))
    await identity.caller(header("rsa"))
    host.answer["keys"] = old
    await asyncio.sleep(0.06)
    assert (await identity.caller(header("ec"))).subject == "alice"


async def test_a_key_that_replaces_another_under_its_id_is_found(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url, min_interval_s=0.05))
    await identity.caller(header("ec"))
    host.answer = {"keys": [public_jwk(OTHER_EC_KEY, "ec")]}
    await asyncio.sleep(0.06)
    assert (await identity.caller(header("ec", signed_by=OTHER_EC_KEY))).subject == "alice"


async def test_forged_signatures_do_not_cause_requests_to_the_host(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await identity.caller(header("ec", signed_by=OTHER_EC_KEY))
    assert host.fetches == 1


async def test_a_withdrawn_key_expires_even_after_an_idle_time(
    host: JwksHost,
) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=0.05, min_interval_s=0))
    await identity.caller(header("ec"))
    host.answer["keys"] = [public_jwk(RSA_KEY, "rsa")]
    await asyncio.sleep(0.06)
    with pytest.raises(Unauthenticated):
        await identity.caller(header("ec"))


async def test_a_withdrawn_key_expires_after_an_idle_time_that_a_failure_of_its_host_precedes(
    host: JwksHost,
) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=0.05, min_interval_s=0))
    await identity.caller(header("ec"))
    await asyncio.sleep(0.06)
    host.status = 503
    await identity.caller(header("ec"))
    host.status = 200
    host.answer["keys"] = [public_jwk(RSA_KEY, "rsa")]
    await asyncio.sleep(0.06)
    callers = (identity.caller(header("ec")) for _ in range(2))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, Unauthenticated) for outcome in outcomes)


async def test_keys_are_fetched_anew_before_they_are_old(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=1, min_interval_s=0))
    await identity.caller(header("ec"))
    await asyncio.sleep(0.55)
    host.delay_s = 1
    async with asyncio.timeout(0.9):
        await identity.caller(header("ec"))
    await eventually(lambda: host.fetches == 2)
    await asyncio.sleep(1.1)


async def test_keys_stay_valid_for_a_time_while_their_host_is_down(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=0, max_stale_s=0.5, min_interval_s=0))
    await identity.caller(header("ec"))
    host.status = 503
    assert await identity.caller(header("ec"))
    await asyncio.sleep(0.51)
    with pytest.raises(Unavailable):
        await identity.caller(header("ec"))
    host.status = 200
    assert await identity.caller(header("ec"))


async def test_a_new_key_of_a_host_that_is_away_is_not_called_invalid(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url, min_interval_s=0))
    await identity.caller(header("ec"))
    host.status = 503
    with pytest.raises(Unavailable):
        await identity.caller(header("ec", known_as="new"))
    assert await identity.caller(header("ec"))
    host.answer["keys"].append(public_jwk(EC_KEY, "new"))
    host.status = 200
    assert await identity.caller(header("ec", known_as="new"))


@pytest.mark.parametrize("trouble", ["error", "nonsense", "a list", "no keys", "gone"])
async def test_known_keys_work_while_their_host_fails(
    host: JwksHost, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=0, min_interval_s=0))
    await identity.caller(header("ec"))
    host.status = 500 if trouble == "error" else 200
    host.answer = {"nonsense": 5, "a list": [], "no keys": {"keys": []}}.get(trouble, host.answer)
    if trouble == "gone":
        await host.__aexit__(None, None, None)
    assert await identity.caller(header("ec"))
    await eventually(lambda: "AUTH_JWKS_URL" in caplog.text)
    assert await identity.caller(header("ec"))


async def test_the_log_tells_that_a_url_is_that_of_the_issuers_settings(
    host: JwksHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.answer = {"issuer": host.url, "jwks_uri": host.url}
    with pytest.raises(Unavailable):
        await jwks_identity(Jwks(host.url)).caller(header("ec"))
    assert "not of the issuer's settings" in caplog.text


async def test_a_huge_answer_is_not_read(host: JwksHost, caplog: pytest.LogCaptureFixture) -> None:
    host.answer["more"] = "x" * 2_000_000
    with pytest.raises(Unavailable):
        await jwks_identity(Jwks(host.url)).caller(header("ec"))
    assert "too many" in caplog.text


async def test_the_host_is_asked_through_the_proxy_that_settings_choose(
    host: JwksHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
    assert await jwks_identity(Jwks(host.url)).caller(header("ec"))
    with pytest.raises(Unavailable):
        await jwks_identity(Jwks(host.url, "http://127.0.0.1:1")).caller(header("ec"))


async def test_an_issuers_certificate_may_be_from_a_private_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "issuer.pem"
    file.write_bytes(b"".join(self_signed(EC_KEY, "private")))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with JwksHost(public_jwk(EC_KEY, "ec"), tls=tls) as host:
        assert await jwks_identity(Jwks(host.url)).caller(header("ec"))


async def test_known_keys_do_not_wait_for_a_slow_host(host: JwksHost) -> None:
    identity = jwks_identity(Jwks(host.url, max_age_s=0))
    await identity.caller(header("ec"))
    host.delay_s = FOREVER_S
    async with asyncio.timeout(10):
        assert await identity.caller(header("ec"))


async def test_without_any_keys_identity_is_unavailable(host: JwksHost) -> None:
    host.status = 503
    identity = jwks_identity(Jwks(host.url, min_interval_s=0.5))
    for _ in range(5):
        with pytest.raises(Unavailable) as away:
            await identity.caller(header("ec"))
        assert (away.value.code, away.value.retry_after_s) == ("NO_TOKEN_KEYS", 0.5)
    assert host.fetches < 5
    host.status = 200
    await asyncio.sleep(0.51)
    assert await identity.caller(header("ec"))
