import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chat_service.access.identity import Caller, Identity, choose_identity
from chat_service.settings import ChatSettings
from daca_shared.domain import Forbidden, Unauthenticated
from tests.tokens import (
    AUDIENCE,
    SECRET,
    JwksHost,
    claims,
    public_jwk,
    secret_identity,
    token,
)

OTHER_SECRET = "another secret of the tests, as long"
KEY = ec.generate_private_key(ec.SECP256R1())


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    return f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims())}."


def bad_tokens() -> dict[str, str]:
    """Made just before use: each is invalid only for its one reason, and not for its age."""
    return {
        "expired": token(exp=time.time() - 60),
        "not yet valid": token(nbf=time.time() + 60),
        "no expiry": token(exp=None),
        "no number as expiry": token(exp="soon"),
        "endless": token(exp=1e400),
        "no subject": jwt.encode(claims() | {"sub": None}, SECRET, "HS256"),
        "no audience": token(aud=None),
        "another audience": token(aud="another"),
        "another secret": jwt.encode(claims(), OTHER_SECRET, "HS256"),
        "another algorithm": jwt.encode(claims(), SECRET, "HS512"),
        "none": unsigned("none"),
        "None": unsigned("None"),
        "no algorithm": f"{encoded({})}.{encoded(claims())}.",
        "no signature": unsigned("HS256"),
        "claims that are no object": f"{encoded({'alg': 'HS256'})}.{encoded([])}.",
        "a list as kid": f"{encoded({'alg': 'HS256', 'kid': []})}.{encoded(claims())}.",
        "changed": token().replace(".", ".e", 1),
        "deep": "[" * 100_000 + "." * 2,
        "not ASCII": "é.é.é",
        "dots": "..",
        "blank": " ",
        "words": "let me in",
    }


async def test_the_subject_of_a_token_is_its_caller() -> None:
    for scheme in ("Bearer", "bearer", "Bearer "):
        assert await secret_identity().caller(f"{scheme} {token('bob')}") == Caller("bob")


async def test_an_audience_may_be_one_of_many() -> None:
    caller = await secret_identity().caller(f"Bearer {token(aud=['x', AUDIENCE])}")
    assert caller.subject == "alice"


@pytest.mark.parametrize("kind", bad_tokens())
async def test_a_bad_token_is_refused_without_saying_why(kind: str) -> None:
    bad = bad_tokens()[kind]
    with pytest.raises(Unauthenticated) as refused:
        await secret_identity().caller(f"Bearer {bad}")
    assert refused.value.message == "The bearer token is not valid"


async def test_the_log_tells_an_operator_why_a_token_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    reasons = {"another audience": "Audience doesn't match", "another secret": "no key fits"}
    for kind in reasons:
        with pytest.raises(Unauthenticated):
            await secret_identity().caller(f"Bearer {bad_tokens()[kind]}")
    assert caplog.messages == [f"a bearer token is refused: {why}" for why in reasons.values()]


async def test_the_clock_of_an_issuer_may_be_ahead() -> None:
    assert await secret_identity().caller(f"Bearer {token(iat=time.time() + 60)}")


@pytest.mark.parametrize(
    "headers",
    [[], [""], ["Basic YWxpY2U6eA=="], [token()], [f"Token {token()}"],
     [f"Bearer {token()}", f"Bearer {token()}"], [f"Bearer {token()}", ""]],
)  # fmt: skip
async def test_exactly_one_token_is_required(headers: list[str]) -> None:
    with pytest.raises(Unauthenticated, match="A bearer token is required"):
        await secret_identity().caller(*headers)


async def test_an_issuer_is_checked_where_one_is_set() -> None:
    identity = secret_identity(issuer="https://issuer.example")
    assert await identity.caller(f"Bearer {token(iss='https://issuer.example')}")
    for wrong in ("https://issuer.example/", None):
        with pytest.raises(Unauthenticated):
            await identity.caller(f"Bearer {token(iss=wrong)}")


def test_a_caller_can_claim_no_other_user() -> None:
    Caller("alice").must_be("alice")
    for other in ("bob", "Alice", "alice ", ""):
        with pytest.raises(Forbidden):
            Caller("alice").must_be(other)


async def test_without_keys_any_user_id_may_be_claimed() -> None:
    (await Identity().caller()).must_be("bob")


async def test_the_settings_choose_the_keys_and_what_else_a_token_must_say(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_identity(ChatSettings.from_environment()) == Identity()
    assert "anyone may claim any user id" in caplog.text
    caplog.clear()
    environment.setenv("AUTH_JWT_AUDIENCE", "us")
    environment.setenv("AUTH_JWT_ISSUER", "them")
    environment.setenv("AUTH_JWT_SECRET", SECRET)
    with_secret = choose_identity(ChatSettings.from_environment())
    assert await with_secret.caller(f"Bearer {token(aud='us', iss='them')}") == Caller("alice")
    environment.setenv("AUTH_JWT_SECRET", "")
    async with JwksHost(public_jwk(KEY, "k")) as host:
        environment.setenv("AUTH_JWKS_URL", host.url)
        with_keys = choose_identity(ChatSettings.from_environment())
        signed = jwt.encode(claims(aud="us", iss="them"), KEY, "ES256", {"kid": "k"})
        assert await with_keys.caller(f"Bearer {signed}") == Caller("alice")
    for identity in (with_secret, with_keys):
        assert (identity.audience, identity.issuer) == ("us", "them")
    assert caplog.text == ""
